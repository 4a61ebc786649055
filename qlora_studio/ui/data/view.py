"""What the Data page says, as values. Pure."""

from collections.abc import Container
from typing import NamedTuple

from qlora_studio.core.data.formats import format_words
from qlora_studio.core.data.report import DataReport, LengthStatistics, RowPreview, RowSummary, TokenPiece
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.quantity import bytes_text, count_text, duration_text
from qlora_studio.core.run.activity import Phase, activity_words
from qlora_studio.core.run.run_state import RunState

_VERDICT_TONES = {"ok": "ok", "repaired": "warn", "rejected": "bad"}
PART_WORDS = {
    "": "",
    "training": "in training",
    "evaluation": "held out",
    "left_out": "left out",
    "duplicate": "dropped",
    "not_drawn": "not drawn",
}
_BY_HAND = "left out by hand"  # as the worker's reason begins, too
_COUNTED = {"rows": "Reading rows", "evaluation rows": "Reading evaluation rows"}  # in whichever activity


def data_summary(report: DataReport, *, current: bool = True) -> str:
    """Return the line below the heading: rows, format with its evidence, size, time; of what is `current`, more."""
    parts = [f"{report.rows.total:,} rows", format_text(report)]
    if current:
        parts += [f"{report.rows.evaluation:,} held out"] if report.rows.evaluation else []
        parts += [f"{report.rows.excluded:,} {_BY_HAND}"] if report.rows.excluded else []
        parts += [f"{report.rows.seen:,} an epoch"] if report.rows.seen > report.rows.training else []
    parts += [bytes_text(report.size_bytes)] if report.size_bytes else []
    parts += [f"read in {duration_text(report.seconds)}"] if report.seconds >= 1 else []
    return " · ".join(parts)


def format_text(report: DataReport) -> str:
    """Return the format, and in how many rows it was found."""
    if len({source.format for source in report.sources}) > 1:
        return f"{len(report.sources)} datasets"
    words, found = format_words(report.format), report.evidence.get(report.format, 0)
    if not report.format:
        return words
    if found >= report.rows.total:
        return f"{words}, found in all rows"
    return f"{words}, found in {found:,} rows" if found else words


def lengths_text(lengths: LengthStatistics, *, current: bool = True) -> str:
    """Return what the histogram says, in a line; what goes by the batch, of lengths that are `current` alone."""
    parts = [f"median {lengths.quantiles['50']:,} tokens"] if "50" in lengths.quantiles else []
    parts += [f"95% of the rows under {lengths.quantiles['95']:,}"] if "95" in lengths.quantiles else []
    if not current:
        parts.append("– padding")
    elif not lengths.padded_because:
        parts.append(f"no padding, {lengths.padding_share:.0%} if rows were padded")
    elif lengths.packing:
        parts.append(f"{lengths.packed_padding_share:.0%} padding in packs, {lengths.padding_share:.0%} without")
    else:
        parts.append(f"{lengths.padding_share:.0%} padding, {lengths.packed_padding_share:.0%} with packing")
    return " · ".join(parts)


def tokens_text(lengths: LengthStatistics, *, current: bool = True) -> str:
    """Return how many tokens there are, and how many of them teach; what is computed anew is a dash."""
    whole = f"{count_text(lengths.total_tokens)} tokens, {lengths.trained_share:.0%} of them trained"
    if not current:
        return f"{whole} · – tokens and – steps per epoch"
    return (
        f"{whole} · {count_text(lengths.tokens_per_epoch)} tokens"
        f"{f' in {lengths.packs:,} packs' if lengths.packing else ''} and {lengths.steps_per_epoch:,} steps per epoch"
    )


def row_text(row: RowPreview) -> str:
    """Return a row's size in tokens."""
    if not row.tokens:
        return ""
    share = row.trained / len(row.tokens)
    all_kept = row.kept == len(row.tokens)
    size = f"{len(row.tokens):,} tokens" if all_kept else f"{row.kept:,} of {len(row.tokens):,} tokens kept"
    variables = f", with {variables_text(row.variables)}" if row.variables else ""
    return f"{size}, {row.trained:,} trained ({share:.0%}){variables}"


class PackedTokens(NamedTuple):
    """The tokens of a row amid those of its neighbours, the rows' names by their first token, and the row's own."""

    tokens: tuple[TokenPiece, ...]
    labels: dict[int, str]
    first: int


def packed_tokens(row: RowPreview) -> PackedTokens:
    """Return what the X-ray shows of a row: its own tokens, and those of the rows before and after it in its pack."""
    if row.pack is None:
        return PackedTokens(row.tokens, {}, 0)
    before, after = ([(item.number, item.tokens) for item in part] for part in (row.pack.before, row.pack.after))
    labels: dict[int, str] = {}
    tokens: list[TokenPiece] = []
    for number, pieces in (*before, (row.number, row.tokens), *after):
        labels[len(tokens)] = f"row {number + 1:,}"
        tokens += pieces
    return PackedTokens(tuple(tokens), labels, sum(len(pieces) for _, pieces in before))


def pack_text(row: RowPreview) -> str:
    """Return in which pack a row is trained, and how many others with it."""
    if row.pack is None:
        return ""
    others = len(row.pack.before) + len(row.pack.after)
    with_whom = f"with {others:,} other row{'' if others == 1 else 's'}" if others else "alone"
    return f"In pack {row.pack.number + 1:,} of {row.pack.packs:,}: {with_whom}, {row.pack.tokens:,} tokens"


def with_choice(row: RowSummary, by_hand: Container[str]) -> RowSummary:
    """Return a row as the user wants it now, left out by hand or not, where the report does not know it yet."""
    wanted = bool(row.key) and row.key in by_hand
    if wanted == is_by_hand(row):
        return row
    return row.model_copy(update={"part": "left_out", "reason": _BY_HAND} if wanted else {"part": "", "reason": ""})


def is_by_hand(row: RowSummary) -> bool:
    """Whether the user leaves this row out."""
    return row.part == "left_out" and row.reason.startswith(_BY_HAND)


def verdict_text(row: RowSummary) -> str:
    """Return a row's verdict, and why; or which row it repeats."""
    if is_by_hand(row):
        return _BY_HAND
    if row.verdict == "rejected" and row.reason:
        return row.reason
    if row.part == "left_out" and row.reason:
        return f"left out: {row.reason}"
    words = f"{row.verdict}: {row.reason}" if row.reason else str(row.verdict)
    if not row.duplicate:
        return words
    return repeats_text(row) if words == "ok" else f"{words}, {repeats_text(row)}"


def verdict_tone(row: RowSummary) -> str:
    """Return the colour token of a row's verdict."""
    if is_by_hand(row):
        return "muted"
    if row.part == "left_out":
        return "bad"
    return "warn" if row.duplicate and row.verdict == "ok" else _VERDICT_TONES[row.verdict]


def repeats_text(row: RowSummary) -> str:
    """Return that a row repeats an earlier one, and which."""
    words = "repeats" if row.duplicate == "exact" else "nearly repeats"
    return f"{words} row {row.original + 1:,}" if row.original is not None else f"{words} an earlier row"


def place_text(row: RowPreview) -> str:
    """Return where a row stands: dataset, file and line."""
    line = f"line {row.line:,}"
    return " · ".join(dict.fromkeys(part for part in (row.dataset, row.file) if part)) + (
        f", {line}" if row.dataset or row.file else line
    )


def reading_text(state: RunState) -> tuple[str, float | None]:
    """Return what a data job does, and its share where that is known."""
    progress = state.progress
    counted = _COUNTED.get(progress.what, "") if progress else ""
    words = counted or activity_words(state.activity) or Phase.STARTING.words
    if progress is None or not progress.total:
        return f"{words} …", None
    if progress.unit == "bytes":
        return f"{words}: {bytes_text(progress.done)} of {bytes_text(progress.total)}", progress.done / progress.total
    unit = f" {progress.unit}" if progress.unit else ""
    return f"{words}: {progress.done:,} of {progress.total:,}{unit}", progress.done / progress.total
