"""An export together with what it was made from, and what it carries itself.

`run` and `config` are None for an adapter made elsewhere: there are no held-out rows, and how it was trained is not
known.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.errors import StudioError
from qlora_studio.core.export.formats import ExportFormat, parse_format
from qlora_studio.engine.context import Channel
from qlora_studio.engine.gguf.llama_cpp import has_llama_cpp
from qlora_studio.engine.gguf.llama_cpp_process import LlamaCppProcess
from qlora_studio.engine.gguf.tokenizer_reading import load_gguf_tokenizer
from qlora_studio.engine.model.adapter import adapter_folder
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.model.original import merge_base
from qlora_studio.engine.templates.prompting import Prompting
from qlora_studio.engine.verification.report import Verification
from qlora_studio.storage.models.folder import generation_config
from qlora_studio.storage.runs.export_folder import read_export
from qlora_studio.storage.runs.run_folder import RunFolder


@dataclass(frozen=True)
class Subject:
    """An export with what it was made from."""

    folder: Path
    shape: ExportFormat
    run: RunFolder | None
    config: RunConfig | None
    base: Path
    adapter: Path
    checkpoint: str
    weights: str
    tokenizer: Any

    @property
    def precision(self) -> str:
        """The precision whose tolerance holds; plain safetensors and adapters are judged as 16 bit."""
        return self.shape.precision or "bf16"

    @property
    def gguf(self) -> Path:
        """Its GGUF file."""
        return next(self.folder.glob("*.gguf"))


def subject_of(folder: Path, run: RunFolder, channel: Channel) -> Subject:
    """Return an export with what it was made from. Raises StudioError where something of it is gone."""
    manifest = read_export(folder)
    config = run.config()
    base = merge_base(config.model.source, config.model.revision, config.quantization.original, channel)
    checkpoint = manifest.checkpoint
    adapter = adapter_folder(run, checkpoint)
    places = (adapter, run.adapter_path, base)
    tokenizer = tokenizer_of(next(place for place in places if (place / "tokenizer_config.json").is_file()))
    return Subject(
        folder=folder,
        shape=parse_format(manifest.format),
        run=run,
        config=config,
        base=base,
        adapter=adapter,
        checkpoint=checkpoint,
        weights=manifest.base_weights,
        tokenizer=tokenizer,
    )


def foreign_subject(folder: Path, base: Path, adapter: Path) -> Subject:
    """Return a merge of an adapter made elsewhere with its base and adapter."""
    place = next((place for place in (adapter, base) if (place / "tokenizer_config.json").is_file()), None)
    return Subject(
        folder=folder,
        shape=parse_format("safetensors"),
        run=None,
        config=None,
        base=base,
        adapter=adapter,
        checkpoint="final",
        weights="original",
        tokenizer=tokenizer_of(place) if place else None,
    )


def exported_tokenizer(subject: Subject, found: Verification) -> Any:
    """Return the tokenizer that the export itself carries; None for one that carries none.

    That of a GGUF is llama.cpp's, where there is one that loads the file; that it does not load is a check that failed.
    """
    if not subject.shape.traits.has_tokenizer or subject.tokenizer is None:
        return None
    if subject.shape.traits.is_gguf:
        read = load_gguf_tokenizer(subject.gguf)
        try:
            return AskedOfLlamaCpp(read, LlamaCppProcess(subject.gguf)) if has_llama_cpp() else read
        except StudioError as error:
            found.add("llama.cpp", False, error.message)
            return read
    return tokenizer_of(subject.folder)


def stop_ids(subject: Subject, exported: Any) -> list[int]:
    """Return the ids that end an answer, by the export's own files."""
    ids: list[int] = []
    if (subject.folder / "generation_config.json").is_file():
        configured = generation_config(subject.folder).get("eos_token_id")
        ids += configured if isinstance(configured, list) else [] if configured is None else [configured]
    elif exported is not None and subject.shape.traits.is_gguf:
        ids += exported.stop_ids
    elif exported is not None and exported.eos_token_id is not None:
        ids.append(int(exported.eos_token_id))
    elif subject.tokenizer.eos_token_id is not None:
        ids.append(int(subject.tokenizer.eos_token_id))
    return ids


def rendered_ids(tokenizer: Any, *conversations: list[dict[str, str]], opening: bool = False) -> list[list[int]]:
    """Return the ids of conversations by a tokenizer's own template; of plain text where it has none."""
    if tokenizer.chat_template is None:
        plain = ["\n".join(turn["content"] for turn in messages) for messages in conversations]
        return [list(tokenizer(text).input_ids) for text in plain]
    texts = Prompting().texts(tokenizer, conversations, opening=opening)
    return [list(tokenizer(text, add_special_tokens=False).input_ids) for text in texts]


class AskedOfLlamaCpp:
    """A GGUF's tokenizer whose ids llama.cpp gives; the rest is as the file says."""

    def __init__(self, read: Any, model: LlamaCppProcess) -> None:
        self._read, self._model = read, model

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> "_Ids":
        return _Ids(self._model.tokenize(text, add_special=add_special_tokens))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._read, name)

    def close(self) -> None:
        """End llama.cpp."""
        self._model.close()


@dataclass(frozen=True)
class _Ids:
    input_ids: list[int]
