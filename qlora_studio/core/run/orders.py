"""What a run reads, fetches and writes, in words: to be read before a run that came from elsewhere is trusted."""

from pathlib import PurePath

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.words import say


def orders_in_words(folder: PurePath, config: RunConfig) -> tuple[str, ...]:
    """Return a line for each thing that a run in a folder would do to what is outside of it, and to itself."""
    model, data = config.model, config.data
    revision = f" ({model.revision})" if model.revision else ""
    exports = say(" and exports ({formats})", formats=", ".join(config.export.formats)) if config.export.merge else ""
    named = (
        (say("Loads the base model"), f"{model.source}{revision}"),
        (say("Merges into the original"), config.quantization.original),
        (say("Goes on from the adapter"), config.lora.start_from),
        (say("Reads the data"), ", ".join(source.path for source in data.sources if source.path)),
        (say("Reads held-out rows"), data.evaluation_path),
        (say("Writes"), say("checkpoints, the adapter{exports} into {folder}", exports=exports, folder=folder)),
    )
    return (
        *(f"{words}: {what}" for words, what in named if what),
        say("A model or dataset that is no file on this computer is fetched from the hub."),
        say("Nothing is uploaded: no run does that."),
    )
