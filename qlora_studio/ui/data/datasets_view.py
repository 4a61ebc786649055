"""The datasets of a draft, as values: what the page says of each, and which settings a change asks for. Pure."""

from collections.abc import Sequence
from typing import Any

from qlora_studio.core.config.run_config import ENCODING_NAMES, DataSection, DatasetSource
from qlora_studio.core.data.formats import format_words, found_mapping
from qlora_studio.core.data.report import DataReport, SourceReport
from qlora_studio.core.data.source_facts import EvaluationFacts
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.words import say
from qlora_studio.ui.kit.text import visible_text

_MOST_REASONS, _MOST_COLUMNS = 3, 8
_PARTS = {
    "prompt": say("prompt"),
    "completion": say("answer"),
    "conversation": say("conversation"),
    "text": say("text"),
}
_FIELDS = tuple(DatasetSource.model_fields)


def fresh(path: str, *more: str) -> dict[str, Any]:
    """Return the settings that make another dataset the first one: nothing is left of how the old one was read.

    With `more`, those are all the others; else the others stay.
    """
    first = {f"data.{name}": value for name, value in DatasetSource(path=path).model_dump().items()}
    return first | (_more([DatasetSource(path=other) for other in more]) if more else {})


def added(data: DataSection, *paths: str) -> dict[str, Any]:
    """Return the settings that add datasets."""
    return _more([*data.more, *(DatasetSource(path=path) for path in paths)])


def removed(data: DataSection, index: int) -> dict[str, Any]:
    """Return the settings without a dataset; where it is the first, the second takes its place."""
    left = [source for number, source in enumerate(data.sources) if number != index]
    first = left[0] if left else DatasetSource()
    return {f"data.{name}": getattr(first, name) for name in _FIELDS} | _more(left[1:])


def changed(data: DataSection, index: int, **changes: Any) -> dict[str, Any]:
    """Return the settings that change fields of a dataset."""
    if index == 0:
        return {f"data.{name}": value for name, value in changes.items()}
    more = list(data.more)
    more[index - 1] = more[index - 1].model_copy(update=changes)
    return _more(more)


def source_text(source: SourceReport, whole: int) -> str:
    """Return what a dataset is and holds; `whole` is how many tokens an epoch trains on, of all datasets."""
    parts = [format_words(source.format) + _mixed(source)] if source.total else []
    parts += [say("{total:,} rows", total=source.total)] if source.total else []
    parts += [say("{files:,} files", files=source.files)] if source.files > 1 else []
    parts += [bytes_text(source.size_bytes)] if source.size_bytes and not source.tokens else []
    for count, words in (
        (source.repaired, say("repaired")),
        (source.rejected, say("rejected")),
        (source.untrainable, say("cannot be trained")),
        (source.dropped, say("dropped as duplicates")),
        (source.not_drawn, say("not drawn")),
    ):
        parts += [f"{count:,} {words}"] if count else []
    parts += [say("{seen:,} rows an epoch", seen=source.seen)] if source.weight != 1 and source.seen else []
    parts += (
        [say("{trained_tokens:.0%} of what is trained", trained_tokens=source.trained_tokens / whole)]
        if whole and source.trained_tokens
        else []
    )
    parts += [say("commit {commit}", commit=source.commit[:7])] if source.commit else []
    return " · ".join(parts)


def duplicates_text(report: DataReport | None) -> str:
    """Return how many rows repeat an earlier one, and what becomes of them."""
    if report is None:
        return ""
    rows = report.rows
    if not rows.duplicates and not rows.near_duplicates:
        return say("No row repeats another.")
    if not rows.dropped:
        return say("{exact:,} exact, {near:,} near", exact=rows.duplicates, near=rows.near_duplicates)
    return say(
        "{exact:,} exact, {near:,} near, {dropped:,} dropped",
        exact=rows.duplicates,
        near=rows.near_duplicates,
        dropped=rows.dropped,
    )


def evaluation_text(data: DataSection, report: DataReport | None) -> str:
    """Return where the held-out rows come from, and what became of a file's rows."""
    own = data.evaluation
    if own is None:
        if not data.evaluation_share:
            return say("none")
        share, held = data.evaluation_share, report.rows.evaluation if report else 0
        if not held:
            return say("{share:.0%} of the rows", share=share)
        return say("{share:.0%} of the rows: {held:,} rows", share=share, held=held)
    return _facts_text(report.evaluation) if report and report.evaluation else ""


def evidence_text(source: SourceReport, *, is_mapped: bool = False) -> str:
    """Return what the rows look like, format by format, and why some were changed or rejected.

    `is_mapped` is whether the user said which column plays which part.
    """
    if not source.total:
        return ""
    looks = [(form, count) for form, count in source.evidence.items() if form or not source.format]
    lines = [_looks_text(looks, source.total)] if looks else []
    if not (source.proposed or is_mapped) and (known := found_mapping(source.format, source.columns)):
        mapping = ", ".join(f"{visible_text(name)} → {_PARTS[part]}" for part, name in known.items())
        lines.append(say("Read by the columns' names: {mapping}. Choose others below.", mapping=mapping))
    unused = [*(source.unread or source.unused)]
    if unused:
        names = ", ".join(_counted(name, source.unread.get(name, 0)) for name in unused[:_MOST_COLUMNS])
        if (more := len(unused) - _MOST_COLUMNS) > 0:
            names = say("{names} and {more} more", names=names, more=more)
        lines.append(say("Nothing is learned from: {names}.", names=names))
    if source.proposed:
        mapping = ", ".join(f"{visible_text(name)} → {part}" for part, name in source.proposed.items())
        lines.append(say("It can be read so: {mapping}. The columns below are filled in.", mapping=mapping))
    for title, reasons in ((say("Repaired"), source.repairs), (say("Rejected"), source.reasons)):
        if reasons:
            shown = "; ".join(f"{count:,} × {reason}" for reason, count in list(reasons.items())[:_MOST_REASONS])
            lines.append(f"{title}: {shown}{' …' if len(reasons) > _MOST_REASONS else ''}")
    return "\n".join(lines)


def _looks_text(looks: Sequence[tuple[str, int]], total: int) -> str:
    if len(looks) == 1 and looks[0][1] == total:
        return say("All {total:,} rows: {format}.", total=total, format=format_words(looks[0][0]))
    parts = [say("{count:,} rows: {format}", count=count, format=format_words(form)) for form, count in looks]
    return say("Of {total:,} rows, {parts}.", total=total, parts="; ".join(parts))


def _counted(name: str, rows: int) -> str:
    return say("{name} ({rows:,} rows)", name=visible_text(name), rows=rows) if rows else visible_text(name)


def encoding_texts(source: SourceReport) -> list[str]:
    """Return what each text encoding reads where the file has more than plain ASCII; nothing where all are alike."""
    if len({text for name, text in source.readings.items() if name != "utf-16"}) < 2:
        return []
    return [
        say("{encoding} reads: {text}", encoding=ENCODING_NAMES[name], text=visible_text(text))
        for name, text in source.readings.items()
    ]


def choices(splits: Sequence[str], wanted: str) -> tuple[dict[str, str], str]:
    """Return the words of a choice, and which of them is offered: what is chosen, or train, or nothing yet."""
    offered = wanted if wanted in splits else ("train" if "train" in splits else next(iter(splits), ""))
    return {name: name for name in splits}, offered


def _facts_text(facts: EvaluationFacts) -> str:
    parts = [say("{used:,} of {ok:,} rows", used=facts.used, ok=facts.ok + facts.repaired + facts.rejected)]
    for count, words in (
        (facts.repaired, say("repaired")),
        (facts.rejected, say("rejected")),
        (facts.untrainable, say("cannot be used")),
        (facts.in_training, say("left out: in the training rows, too")),
    ):
        parts += [f"{count:,} {words}"] if count else []
    return " · ".join(parts)


def _mixed(source: SourceReport) -> str:
    others = sum(count for form, count in source.evidence.items() if form != source.format)
    return say(" (mixed: {others:,} rows of another format)", others=others) if source.mixed else ""


def _more(sources: Sequence[DatasetSource]) -> dict[str, Any]:
    return {"data.more": [source.model_dump(include=set(_FIELDS)) for source in sources]}
