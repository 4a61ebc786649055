"""What a run reads, fetches and writes, in words: to be read before a run that came from elsewhere is trusted."""

from pathlib import PurePath

from qlora_studio.core.run.run_config import RunConfig


def orders_in_words(folder: PurePath, config: RunConfig) -> tuple[str, ...]:
    """Return a line for each thing that a run in a folder would do to what is outside of it, and to itself."""
    model, data = config.model, config.data
    revision = f" ({model.revision})" if model.revision else ""
    exports = f" and exports ({', '.join(config.export.formats)})" if config.export.merge else ""
    named = (
        ("Loads the base model", f"{model.source}{revision}"),
        ("Merges into the original", config.quantization.original),
        ("Goes on from the adapter", config.lora.start_from),
        ("Reads the data", ", ".join(source.path for source in data.sources if source.path)),
        ("Reads held-out rows", data.evaluation_path),
        ("Writes", f"checkpoints, the adapter{exports} into {folder}"),
    )
    return (
        *(f"{words}: {what}" for words, what in named if what),
        "A model or dataset that is no file on this computer is fetched from the hub.",
        "Nothing is uploaded: no run does that.",
    )
