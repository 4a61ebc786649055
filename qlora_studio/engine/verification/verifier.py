"""Is an export right? Everything is read from its files again, and compared with the adapter it was made from."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.reports import BasesReport, VerificationPlan, VerificationPlanned
from qlora_studio.engine.context import Channel
from qlora_studio.engine.export.sidecar import PROVENANCE, versions
from qlora_studio.engine.gguf.ollama import try_in_ollama
from qlora_studio.engine.model.base import tokenizer_of
from qlora_studio.engine.templates.stop_tokens import stop_token_ids
from qlora_studio.engine.verification import measurement
from qlora_studio.engine.verification.answers import prompts_of
from qlora_studio.engine.verification.base_comparison import compare_bases
from qlora_studio.engine.verification.comparison import Outcome, batches_of
from qlora_studio.engine.verification.measurement import Rows
from qlora_studio.engine.verification.models import References, compare_models, measure_references
from qlora_studio.engine.verification.passes import Passes
from qlora_studio.engine.verification.report import Verification
from qlora_studio.engine.verification.states import StatesStore
from qlora_studio.engine.verification.subject import (
    AskedOfLlamaCpp,
    Subject,
    exported_tokenizer,
    rendered_ids,
    stop_ids,
)
from qlora_studio.engine.verification.way import DEFAULT_MINUTES, Way, Wish, way_of
from qlora_studio.storage.runs.export_folder import damages, read_export
from qlora_studio.storage.runs.fingerprint import fingerprint_folder

_TRICKY = [
    {"role": "user", "content": "  2 spaces, a tab\t, 12345.67 % and\n\nümlauts, 你好, 🙂 <b>&amp;</b>"},
    {"role": "assistant", "content": "It's `code`:\n    x = {'a': [1, 2]}"},
    {"role": "user", "content": "And <|im_end|>, </s>, [INST]?"},
]


class Verifier:
    """Verifies exports of one checkpoint of one run, one after another."""

    def __init__(self, channel: Channel, *, models: int = 4, wish: Wish = "auto") -> None:
        """`models`: how many will be compared; `wish`: how they are to be loaded."""
        self._channel = channel
        self._models, self._wish = models, wish
        self._plan: _Plan | None = None
        self._references: References | None = None
        self._exported: dict[str, Outcome] = {}  # by the base that a bf16 export was merged into

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
        plan = self._planned(subject)
        if subject.tokenizer is not None:
            exported = exported_tokenizer(subject, found)
            check_tokenizer(subject, exported, plan.rows, found)
            check_stop_token(subject, exported, plan.rows, found)
            if isinstance(exported, AskedOfLlamaCpp):
                exported.close()
        if subject.shape.traits.loads and found.checks[0].passed:
            if self._references is None:
                self._references = measure_references(subject, plan.prompts, plan.rows, plan.passes, plan.way)
            outcome = compare_models(subject, self._references, plan.passes, plan.way, found)
            if subject.shape.text == "safetensors":
                self._exported[subject.weights] = outcome
            found.way = "streamed" if plan.passes.is_streamed else "whole"
        if subject.shape.traits.has_modelfile and found.verified and (outcome_there := try_in_ollama(subject.folder)):
            found.add(subject.shape.kind, *outcome_there)
        found.tokens, found.seconds = plan.rows.tokens, time.monotonic() - began
        return found

    def compare_bases(self, subject: Subject) -> BasesReport | None:
        """Return which base is better to merge into; None where nothing was quantized, or there are no rows."""
        plan, references = self._planned(subject), self._references
        if references is None or not plan.rows.rows or subject.config is None:
            return None
        if subject.config.quantization.method == "none":
            return None
        self._channel.phase(Activity.COMPARING_BASES)
        return compare_bases(subject, references, self._exported, plan.passes, plan.way, plan.rows.tokens)

    def finish(self) -> None:
        """Let go of what an interrupted verification would have gone on from."""
        if self._plan is not None and self._plan.store is not None:
            self._plan.store.remove()

    def _planned(self, subject: Subject) -> "_Plan":
        """Return how this job goes about it: decided, and told, when its first export comes."""
        if self._plan is None:
            minutes = subject.config.export.verification_minutes if subject.config else DEFAULT_MINUTES
            way = way_of(subject.base, models=self._models, minutes=minutes, wish=self._wish)
            rows = self._held_out(subject, way.tokens)
            prompts = prompts_of(subject.tokenizer)
            held_out = sum(len(ids) for ids, _ in rows.rows)
            seconds = way.seconds(held_out + sum(map(len, prompts)))
            plan = VerificationPlan(way=way.name, tokens=held_out, seconds=seconds)
            self._channel.emit(VerificationPlanned(report=plan))
            store = StatesStore(_deciding(subject, prompts, rows, way)) if way.is_streamed else None
            passes = Passes(batches_of(prompts, rows), self._channel, store)
            self._plan = _Plan(way, rows, prompts, passes, store)
        return self._plan

    def _held_out(self, subject: Subject, tokens: int) -> Rows:
        if subject.run is None or subject.config is None:
            return Rows(())
        tokenizer = tokenizer_of(subject.base)
        return measurement.held_out_rows(subject.run, subject.config, tokenizer, self._channel, tokens=tokens)


@dataclass(frozen=True)
class _Plan:
    way: Way
    rows: Rows
    prompts: list[list[int]]
    passes: Passes
    store: StatesStore | None


def _deciding(subject: Subject, prompts: list[list[int]], rows: Rows, way: Way) -> dict[str, Any]:
    """Return all that decides what models make of the rows."""
    return {
        "base": fingerprint_folder(subject.base).model_dump(),
        "adapter": fingerprint_folder(subject.adapter).model_dump(),
        "config": subject.config.model_dump(mode="json") if subject.config else None,
        "rows": rows.rows,
        "prompts": prompts,
        "computed": [str(way.dtype), way.device],
        "versions": versions(),
    }


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
        pair = [rendered_ids(tokenizer, _TRICKY)[0] for tokenizer in (ours, exported)]
        found.add("template", pair[0] == pair[1], _difference(ours, pair, "The chat template gives the same ids."))
    texts = [ours.decode(ids) for ids, _ in rows.rows[:8]] + [turn["content"] for turn in _TRICKY]
    for text in texts:
        pair = [tokenizer(text, add_special_tokens=False).input_ids for tokenizer in (ours, exported)]
        if pair[0] != pair[1]:
            found.add("tokenizer", False, _difference(ours, pair, ""))
            return
    found.add("tokenizer", True, f"{len(texts)} texts give the same ids.")


def check_stop_token(subject: Subject, exported: Any, rows: Rows, found: Verification) -> None:
    """Answers can end: what ends those that were learned is known to the export."""
    ours, known = stop_token_ids(subject.tokenizer), set(stop_ids(subject, exported))
    labels = {label for _, row in rows.rows for label in row}
    ends = [token for token in ours if token in labels] if labels else ours[:1]
    words = " and ".join(subject.tokenizer.convert_ids_to_tokens(ends))
    if not ends:
        named = " nor ".join(subject.tokenizer.convert_ids_to_tokens(ours)) or "an end token"
        found.add("stop token", False, f"{named} never stands in a trained answer: it was not learned.")
        return
    missing = [token for token in ends if token not in known]
    if missing and (len(missing) == len(ends) or not subject.shape.traits.is_gguf):  # a GGUF names no more than three
        named = " and ".join(subject.tokenizer.convert_ids_to_tokens(missing))
        found.add("stop token", False, f"{named} is not among what ends an answer there: {sorted(known)}.")
        return
    found.add("stop token", True, f"Answers end with {words}{', as they were trained' if labels else ''}.")


def _difference(tokenizer: Any, pair: list[list[int]], same: str) -> str:
    if pair[0] == pair[1]:
        return same
    place = next((i for i, ids in enumerate(zip(*pair, strict=False)) if ids[0] != ids[1]), min(map(len, pair)))
    before = tokenizer.decode(pair[0][max(0, place - 4) : place + 4])
    return f"Other ids from token {place} on, near {before!r}."
