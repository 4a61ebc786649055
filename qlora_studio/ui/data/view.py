"""What the Data page says, as values. Pure."""

from collections.abc import Container
from typing import NamedTuple

from qlora_studio.core.data.formats import format_words
from qlora_studio.core.data.report import DataReport, LengthStatistics, RowPreview, RowSummary, TokenPiece
from qlora_studio.core.data.template_variables import variables_text
from qlora_studio.core.quantity import bytes_text, count_text, duration_text
from qlora_studio.core.run.activity import Phase, activity_words
from qlora_studio.core.run.run_state import RunState
from qlora_studio.core.words import say, say_count

_VERDICT_TONES = {"ok": "ok", "repaired": "warn", "rejected": "bad"}
PART_WORDS = {
    "": "",
    "training": say("in training"),
    "evaluation": say("held out"),
    "left_out": say("left out"),
    "duplicate": say("dropped"),
    "not_drawn": say("not drawn"),
}
_VERDICTS = {"ok": say("ok"), "repaired": say("repaired"), "rejected": say("rejected")}
_BY_HAND = "left out by hand"  # as the worker's reason begins, too
_COUNTED = {"rows": say("Reading rows"), "evaluation rows": say("Reading evaluation rows")}  # in whichever activity


def data_summary(report: DataReport, *, current: bool = True) -> str:
    """Return the line below the heading: rows, format with its evidence, size, time; of what is `current`, more."""
    if not report.read:
        return say("{rows:,} rows so far", rows=report.rows.total)
    parts = [say("{total:,} rows", total=report.rows.total), format_text(report)]
    if current:
        parts += [say("{evaluation:,} held out", evaluation=report.rows.evaluation)] if report.rows.evaluation else []
        parts += [say("{excluded:,} left out by hand", excluded=report.rows.excluded)] if report.rows.excluded else []
        parts += [say("{seen:,} an epoch", seen=report.rows.seen)] if report.rows.seen > report.rows.training else []
    parts += [bytes_text(report.size_bytes)] if report.size_bytes else []
    parts += [say("read in {seconds}", seconds=duration_text(report.seconds))] if report.seconds >= 1 else []
    return " · ".join(parts)


def format_text(report: DataReport) -> str:
    """Return the format, and in how many rows it was found."""
    if len({source.format for source in report.sources}) > 1:
        return say("{sources} datasets", sources=len(report.sources))
    words, found = format_words(report.format), report.evidence.get(report.format, 0)
    if not report.format:
        return words
    if found >= report.rows.total:
        return say("{words}, found in all rows", words=words)
    return say("{words}, found in {found:,} rows", words=words, found=found) if found else words


def lengths_text(lengths: LengthStatistics, *, current: bool = True) -> str:
    """Return what the histogram says, in a line; what goes by the batch, of lengths that are `current` alone."""
    parts = [say("median {quantiles:,} tokens", quantiles=lengths.quantiles["50"])] if "50" in lengths.quantiles else []
    parts += (
        [say("95% of the rows under {quantiles:,}", quantiles=lengths.quantiles["95"])]
        if "95" in lengths.quantiles
        else []
    )
    if not current:
        parts.append(say("– padding"))
    elif not lengths.padded_because:
        parts.append(say("no padding, {padding_share:.0%} if rows were padded", padding_share=lengths.padding_share))
    elif lengths.packing:
        parts.append(
            say(
                "{packed_padding_share:.0%} padding in packs, {padding_share:.0%} without",
                packed_padding_share=lengths.packed_padding_share,
                padding_share=lengths.padding_share,
            )
        )
    else:
        parts.append(
            say(
                "{padding_share:.0%} padding, {packed_padding_share:.0%} with packing",
                padding_share=lengths.padding_share,
                packed_padding_share=lengths.packed_padding_share,
            )
        )
    return " · ".join(parts)


def tokens_text(lengths: LengthStatistics, *, current: bool = True) -> str:
    """Return how many tokens there are, and how many of them teach; what is computed anew is a dash."""
    whole = say(
        "{total_tokens} tokens, {trained_share:.0%} of them trained",
        total_tokens=count_text(lengths.total_tokens),
        trained_share=lengths.trained_share,
    )
    if not current:
        return f"{whole} · " + say("– tokens and – steps per epoch")
    tokens, steps = count_text(lengths.tokens_per_epoch), lengths.steps_per_epoch
    if not lengths.packing:
        return f"{whole} · " + say("{tokens} tokens and {steps:,} steps per epoch", tokens=tokens, steps=steps)
    packed = say(
        "{tokens} tokens in {packs:,} packs and {steps:,} steps per epoch",
        tokens=tokens,
        packs=lengths.packs,
        steps=steps,
    )
    return f"{whole} · {packed}"


def row_text(row: RowPreview) -> str:
    """Return a row's size in tokens."""
    if not row.tokens:
        return ""
    share = row.trained / len(row.tokens)
    all_kept = row.kept == len(row.tokens)
    size = (
        say("{tokens:,} tokens", tokens=len(row.tokens))
        if all_kept
        else say("{kept:,} of {tokens:,} tokens kept", kept=row.kept, tokens=len(row.tokens))
    )
    parts = [size, say("{trained:,} trained ({share:.0%})", trained=row.trained, share=share)]
    parts += [say("with {variables}", variables=variables_text(row.variables))] if row.variables else []
    return ", ".join(parts)


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
        labels[len(tokens)] = say("row {number:,}", number=number + 1)
        tokens += pieces
    return PackedTokens(tuple(tokens), labels, sum(len(pieces) for _, pieces in before))


def pack_text(row: RowPreview) -> str:
    """Return in which pack a row is trained, and how many others with it."""
    if row.pack is None:
        return ""
    others = len(row.pack.before) + len(row.pack.after)
    with_whom = say_count(others, "with {count:,} other row", "with {count:,} other rows") if others else say("alone")
    return say(
        "In pack {number:,} of {packs:,}: {with_whom}, {tokens:,} tokens",
        number=row.pack.number + 1,
        packs=row.pack.packs,
        with_whom=with_whom,
        tokens=row.pack.tokens,
    )


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
        return say("left out by hand")
    if row.verdict == "rejected" and row.reason:
        return row.reason
    if row.part == "left_out" and row.reason:
        return say("left out: {reason}", reason=row.reason)
    words = f"{_VERDICTS[row.verdict]}: {row.reason}" if row.reason else _VERDICTS[row.verdict]
    if not row.duplicate:
        return words
    return repeats_text(row) if row.verdict == "ok" and not row.reason else f"{words}, {repeats_text(row)}"


def verdict_tone(row: RowSummary) -> str:
    """Return the colour token of a row's verdict."""
    if is_by_hand(row):
        return "muted"
    if row.part == "left_out":
        return "bad"
    return "warn" if row.duplicate and row.verdict == "ok" else _VERDICT_TONES[row.verdict]


def repeats_text(row: RowSummary) -> str:
    """Return that a row repeats an earlier one, and which."""
    words = "repeats" if row.duplicate == "exact" else say("nearly repeats")
    return (
        say("{words} row {original:,}", words=words, original=row.original + 1)
        if row.original is not None
        else say("{words} an earlier row", words=words)
    )


def place_text(row: RowPreview) -> str:
    """Return where a row stands: dataset, file and line."""
    line = say("line {line:,}", line=row.line)
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
    share = min(1.0, progress.done / progress.total)
    if progress.unit == "bytes":
        done, total = bytes_text(progress.done), bytes_text(progress.total)
    else:
        done, total = f"{progress.done:,}", f"{progress.total:,} {progress.unit}".rstrip()
    text = say("{words}: {done} of {total}, {share:.0%}", words=words, done=done, total=total, share=share)
    return text, share
