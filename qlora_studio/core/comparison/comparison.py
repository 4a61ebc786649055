"""Runs side by side: the settings that differ, what came of each, answers to the same prompts, data and versions.

Pure: records in, groups of rows out, a value and its words for each run. The window and `qlora-studio compare` show
the same rows.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qlora_studio.core.comparison.run_facts import COST, DATA, RESULTS, VERSIONS, Fact, evaluation_rows_hash
from qlora_studio.core.comparison.run_record import RunRecord
from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.words import say

NOTHING = "–"
_OF_THE_TEST = ("data", "model")  # sections, and the settings besides, that decide what a held-out loss is of
_MEASURE = ("training.max_length", "training.loss_on")
_APART = say("The held-out losses of these runs cannot be ranked.")


@dataclass(frozen=True)
class ComparedRow:
    """A fact of each run: its words and its value. `best` are the runs that have the best one, where there is a best.

    `path` is how programs call it: a setting's own name, or `results.held_out_loss`.
    """

    path: str
    title: str
    texts: tuple[str, ...]
    values: tuple[Any, ...]
    tip: str = ""
    best: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the runs do not all have the same."""
        return any(text != self.texts[0] for text in self.texts)


@dataclass(frozen=True)
class RowGroup:
    """Rows that belong together. Of results all are worth a look, of the others those that differ."""

    key: str
    title: str
    rows: tuple[ComparedRow, ...]
    results: bool = False

    def shown(self, *, everything: bool) -> tuple[ComparedRow, ...]:
        """Return the rows to be shown."""
        return self.rows if everything or self.results else tuple(row for row in self.rows if row.differs)


@dataclass(frozen=True)
class ComparedAnswers:
    """The newest answers to a prompt, by run: the step and the text, or None where a run was not asked."""

    prompt: str
    answers: tuple[tuple[int, str] | None, ...]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `caution` says why their held-out losses cannot be held against each other, where that is."""

    names: tuple[str, ...]
    groups: tuple[RowGroup, ...]
    answers: tuple[ComparedAnswers, ...]
    caution: str = ""

    def group(self, key: str) -> RowGroup:
        """Return a group by its key."""
        return next(group for group in self.groups if group.key == key)


def compare(records: Sequence[RunRecord]) -> Comparison:
    """Lay runs side by side, in their order."""
    caution = _caution(records)
    groups = (
        RowGroup("settings", say("Settings"), _settings([record.config for record in records])),
        RowGroup("results", say("Results"), _rows(RESULTS, records, ranked=not caution), results=True),
        RowGroup("cost", say("Time, energy, memory"), _rows(COST, records), results=True),
        RowGroup("data", say("Data"), _rows(DATA, records)),
        RowGroup("versions", say("Versions"), _versions(records)),
    )
    return Comparison(distinct_names(records), groups, _answers(records), caution)


def distinct_names(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return what each run is called; of those of one name the folder, too."""
    often = Counter(record.name for record in records)
    folders = [record.path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] for record in records]
    return tuple(
        record.name if often[record.name] == 1 else f"{record.name} ({folder})"
        for record, folder in zip(records, folders, strict=True)
    )


def _settings(configs: Sequence[RunConfig]) -> tuple[ComparedRow, ...]:
    return tuple(
        _row(info.path, info.title, [config.value(info.path) for config in configs], info.text, info.help)
        for info in all_settings()
    )


def _rows(facts: Iterable[Fact], records: Sequence[RunRecord], *, ranked: bool = False) -> tuple[ComparedRow, ...]:
    rows = []
    for fact in facts:
        row = _row(fact.path, fact.title, [fact.value(record) for record in records], fact.text, fact.tip)
        rows.append(_with_best(row) if ranked and fact.least_is_best else row)
    return tuple(rows)


def _row(path: str, title: str, values: Sequence[Any], text: Callable[[Any], str], tip: str = "") -> ComparedRow:
    texts = tuple(NOTHING if value is None else text(value) or NOTHING for value in values)
    return ComparedRow(path, title, texts, tuple(values), tip)


def _with_best(row: ComparedRow) -> ComparedRow:
    """Say which runs have the least; of runs that all have the same none is best."""
    known = [value for value in row.values if value is not None]
    if len(known) < 2 or min(known) == max(known):
        return row
    return replace(row, best=tuple(index for index, value in enumerate(row.values) if value == min(known)))


def _versions(records: Sequence[RunRecord]) -> tuple[ComparedRow, ...]:
    told = [record.state.environment for record in records]
    names = sorted({name for environment in told if environment for name in environment.packages})
    packages = [
        _row(f"versions.{name}", name, [item.packages.get(name) if item else None for item in told], str)
        for name in names
    ]
    return (*_rows(VERSIONS, records), *packages)


def _answers(records: Sequence[RunRecord]) -> tuple[ComparedAnswers, ...]:
    """Return the newest answers to each prompt that two runs at least were asked."""
    newest = [{sample.prompt: (sample.step, sample.answer) for sample in record.state.samples} for record in records]
    often = Counter(prompt for answers in newest for prompt in answers)
    prompts = dict.fromkeys(prompt for answers in newest for prompt in answers)
    return tuple(
        ComparedAnswers(prompt, tuple(answers.get(prompt) for answers in newest))
        for prompt in prompts
        if often[prompt] > 1
    )


def _caution(records: Sequence[RunRecord]) -> str:
    """Return why the held-out losses of the runs answer different questions, in a sentence; empty where they do not.

    The rows themselves decide, where all the runs tell what theirs are; else the settings that choose them.
    """
    hashes = {evaluation_rows_hash(record) for record in records}
    if None not in hashes:
        return "" if len(hashes) < 2 else say("{apart} Their held-out rows are not the same.", apart=_APART)
    configs = [record.config for record in records]
    differing = [
        info.title.lower()
        for info in all_settings()
        if (info.section in _OF_THE_TEST or info.path in _MEASURE)
        and any(config.value(info.path) != configs[0].value(info.path) for config in configs)
    ]
    return (
        say("{apart} They differ in: {differing}.", apart=_APART, differing=", ".join(differing)) if differing else ""
    )
