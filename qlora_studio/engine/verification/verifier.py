"""Is an export right? Everything is read from its files again, and compared with the adapter it was made from."""

import time
from pathlib import Path
from typing import Any

from qlora_studio.engine.context import Channel
from qlora_studio.engine.export.sidecar import PROVENANCE, versions
from qlora_studio.engine.gguf.ollama import try_in_ollama
from qlora_studio.engine.model.adapted import release_memory
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.verification import measurement
from qlora_studio.engine.verification.measurement import Rows
from qlora_studio.engine.verification.models import References, compare_models, measure_references
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.subject import Subject, exported_tokenizer, rendered_ids, stop_ids
from qlora_studio.storage.runs.export_folder import damages, read_export

_TRICKY = [
    {"role": "user", "content": "  2 spaces, a tab\t, 12345.67 % and\n\nümlauts, 你好, 🙂 <b>&amp;</b>"},
    {"role": "assistant", "content": "It's `code`:\n    x = {'a': [1, 2]}"},
    {"role": "user", "content": "And <|im_end|>, </s>, [INST]?"},
]


class Verifier:
    """Verifies exports of one checkpoint of one run, one after another."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.rows: Rows | None = None
        self.references: References | None = None

    def verify(self, subject: Subject) -> Verification:
        """Return what was found. Damaged files are not loaded."""
        began = time.monotonic()
        found = Verification(
            subject.shape.text,
            versions=versions(),
            base_weights=subject.weights,
            checkpoint=subject.checkpoint,
        )
        check_files(subject.folder, found)
        if self.rows is None:
            self.rows = self._held_out(subject)
        if subject.tokenizer is not None:
            exported = exported_tokenizer(subject)
            check_tokenizer(subject, exported, self.rows, found)
            check_stop_token(subject, exported, self.rows, found)
        if subject.shape.traits.loads and found.checks[0].passed:
            if self.references is None:
                self.references = measure_references(subject, self.rows, self._channel)
            compare_models(subject, self.rows, self.references, found)
            release_memory()
        if subject.shape.traits.has_modelfile and found.verified and (outcome := try_in_ollama(subject.folder)):
            found.add(subject.shape.kind, *outcome)
        found.tokens, found.seconds = self.rows.tokens, time.monotonic() - began
        return found

    def _held_out(self, subject: Subject) -> Rows:
        if subject.run is None or subject.config is None:
            return Rows(())
        return measurement.held_out_rows(subject.run, subject.config, tokenizer_of(subject.base), self._channel)


def check_files(folder: Path, found: Verification) -> None:
    """Every file is there, as long as it should be, with the hash it was written with."""
    broken = damages(folder)
    manifest = read_export(folder)
    count = len(manifest.files)
    found.add("files", not broken, "; ".join(broken[:3]) or f"All {count} files are as they were written.")
    what = ("Run config", "run.toml") if manifest.run else ("Adapter", "adapter/adapter_config.json")
    kept = (folder / PROVENANCE / what[1]).is_file() and (folder / PROVENANCE / "base.json").is_file()
    found.add(
        "provenance", kept, f"{what[0]} and base are kept beside it." if kept else f"{what[0]} or base is missing."
    )


def check_tokenizer(subject: Subject, exported: Any, rows: Rows, found: Verification) -> None:
    """The same conversation, and the held-out rows' own text, give the same ids as in training."""
    ours = subject.tokenizer
    if exported is None:
        found.add("tokenizer", not subject.shape.traits.has_tokenizer, "It uses the base's tokenizer.")
        return
    if ours.chat_template is None:
        found.add("template", exported.chat_template is None, "There is no chat template.")
    else:
        pair = [rendered_ids(tokenizer, _TRICKY) for tokenizer in (ours, exported)]
        found.add("template", pair[0] == pair[1], _difference(ours, pair, "The chat template gives the same ids."))
    texts = [ours.decode(ids) for ids, _ in rows.rows[:8]] + [turn["content"] for turn in _TRICKY]
    for text in texts:
        pair = [tokenizer(text, add_special_tokens=False).input_ids for tokenizer in (ours, exported)]
        if pair[0] != pair[1]:
            found.add("tokenizer", False, _difference(ours, pair, ""))
            return
    found.add("tokenizer", True, f"{len(texts)} texts give the same ids.")


def check_stop_token(subject: Subject, exported: Any, rows: Rows, found: Verification) -> None:
    """Answers can end: the end token is known to the export, and was trained where rows show it."""
    wanted = subject.tokenizer.eos_token_id
    known = stop_ids(subject, exported)
    if wanted is None or wanted not in known:
        found.add("stop token", False, f"The end token {wanted} is not among those that end an answer: {known}.")
        return
    labels = {label for _, row in rows.rows for label in row}
    if labels and not labels & set(known):
        found.add(
            "stop token", False, f"{subject.tokenizer.eos_token} never stands in a trained answer: it was not learned."
        )
        return
    trained = ", and it was trained" if labels else ""
    found.add("stop token", True, f"{subject.tokenizer.eos_token} ends an answer{trained}.")


def _difference(tokenizer: Any, pair: list[list[int]], same: str) -> str:
    if pair[0] == pair[1]:
        return same
    place = next((i for i, ids in enumerate(zip(*pair, strict=False)) if ids[0] != ids[1]), min(map(len, pair)))
    before = tokenizer.decode(pair[0][max(0, place - 4) : place + 4])
    return f"Other ids from token {place} on, near {before!r}."
