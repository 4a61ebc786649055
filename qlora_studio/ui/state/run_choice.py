"""A run as something to choose: to export it, or to talk to it."""

from collections.abc import Iterator
from dataclasses import dataclass

from qlora_studio.core.export.formats import EXPORT_KINDS, kind_of_text
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.state.run_line import RunLine


@dataclass(frozen=True)
class RunChoice:
    """A run that can be exported: its folder, name, and what its base and adapter weigh.

    `text_model` is the class of the language model that its base has inside. `answering` are its exports that can be
    asked in a chat: merged or gguf, and of which checkpoint.
    """

    path: str
    name: str
    parameters: int = 0
    adapter_bytes: int = 0
    checkpoints: tuple[str, ...] = ()
    exports_dir: str = ""
    base: str = ""
    rank: int = 16
    text_model: str = ""
    answering: tuple[tuple[str, str], ...] = ()


def choice_of(line: RunLine) -> RunChoice:
    """Return a run of the list as one to export, or to talk to."""
    return RunChoice(
        path=line.path,
        name=line.name,
        parameters=line.parameters,
        adapter_bytes=line.adapter_bytes,
        checkpoints=tuple(str(step) for step in line.checkpoints),
        exports_dir=str(RunFolder(line.path).exports_path),
        base=line.model,
        rank=line.rank,
        text_model=line.text_model,
        answering=tuple(_answering(line)),
    )


def _answering(line: RunLine) -> Iterator[tuple[str, str]]:
    for past in line.exports:
        traits = EXPORT_KINDS.get(kind_of_text(past.exported.format))
        if traits and traits.answers_as:
            yield traits.answers_as, past.exported.facts.checkpoint or "final"
