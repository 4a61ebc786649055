"""What a data job tells of a dataset: rows, checks, lengths, and single rows as they are trained, token by token.

`DataReport` travels in a `DatasetReported`, the rows of a `ShowRows` in a `RowsReported` in the shape of
`RowsReport`. `check_json` and `preview_json` are what the command line prints.
"""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from qlora_studio.core.bounds import Amount, Count, Number, Seconds, Words
from qlora_studio.core.data.source_facts import EvaluationFacts, SourceFacts
from qlora_studio.core.words import say

Level = Literal["ok", "warning", "error"]
Verdict = Literal["ok", "repaired", "rejected"]
Duplicate = Literal["", "exact", "near"]
Part = Literal["", "training", "evaluation", "left_out", "duplicate", "not_drawn"]


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TokenPiece(NamedTuple):
    """A token of a row. `string` is its piece of the rendered text; the strings of a row put together are the text.

    Where one character takes several tokens the first has it and the others have "". `token` is its name in the
    vocabulary. `packed` marks a token of a neighbour in the same pack.
    """

    id: int
    string: str
    token: str = ""
    trained: bool = False
    special: bool = False
    cut: bool = False
    packed: bool = False


_PIECE = (int, str, str, bool, bool, bool, bool)
_SHAPES = {_PIECE[:length] for length in range(2, len(_PIECE) + 1)}  # earlier versions told less of a token


def _pieces(tokens: Any) -> tuple[TokenPiece, ...]:
    """Return tokens that came as lists: a long row has tens of thousands, and the window waits for them."""
    if not isinstance(tokens, list | tuple) or not {tuple(map(type, _listed(token))) for token in tokens} <= _SHAPES:
        raise ValueError("these are no tokens")
    return tuple(tokens if all(type(token) is TokenPiece for token in tokens) else (TokenPiece(*t) for t in tokens))


def _listed(token: Any) -> Any:
    return token if isinstance(token, list | tuple) else ()


def _as_they_are(tokens: tuple[TokenPiece, ...]) -> Any:
    return tokens


Pieces = Annotated[tuple[TokenPiece, ...], PlainValidator(_pieces), PlainSerializer(_as_they_are, return_type=Any)]


class Neighbour(_Report):
    """Another row of the same pack: its number from 0, and its tokens as they are trained, cut ones left out."""

    number: Count
    tokens: Pieces


class RowPack(_Report):
    """The pack that a row is trained in: its number from 0 of `packs`, its tokens, and the row's neighbours in it."""

    number: Count
    packs: Count
    tokens: Amount
    before: tuple[Neighbour, ...] = ()
    after: tuple[Neighbour, ...] = ()


class RowPreview(_Report):
    """A row as it is trained. `number` counts from 0, `line` from 1; a rejected row has no text and no tokens.

    `number` counts through all datasets, `line` within the `file` of one of them, which `dataset` names.

    `key` is that of all rows that say the same, for `data.exclude`; empty for a rejected row.

    `problem` says why a row that was read well cannot be trained: its template fails, or nothing in it is trained.
    `tokens` are the row's own; `pack` holds its neighbours where it is trained in a pack. `variables` are those of the
    template, of the run and of the row, that it is rendered with. `remarks` are sentences: which answers are not
    learned and why, what the template leaves out, and what was changed for it.
    """

    number: Count
    line: Count
    verdict: Verdict
    reason: str = ""
    raw: str = ""
    text: str = ""
    tokens: Pieces = ()
    part: Part = ""
    problem: str = ""
    dataset: str = ""
    file: str = ""
    key: str = ""
    duplicate: Duplicate = ""
    pack: RowPack | None = None
    variables: dict[str, Any] = {}
    remarks: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """Tokens that are not cut off."""
        return sum(not piece.cut for piece in self.tokens)

    @property
    def trained(self) -> int:
        """Tokens that the loss is taken on."""
        return sum(piece.trained for piece in self.tokens)


class RowsReport(_Report):
    """The answer to a `ShowRows`, or to the rows asked for with the job itself (request 0)."""

    request: Count = 0
    rows: tuple[RowPreview, ...] = ()


class Check(_Report):
    """One check in one sentence. `level` is ok where it passed; an error keeps the run from starting."""

    name: str
    title: str
    passed: bool
    message: str
    level: Level = "ok"


class Rejection(_Report):
    """A row that could not be read, or could not be trained: where it is and why. `offset` is in bytes."""

    number: Count
    line: Count
    offset: Amount
    reason: str
    dataset: str = ""
    file: str = ""


class RowCounts(_Report):
    """Every input row, counted once by verdict. The others count among the rows that were read.

    `excluded` rows are left out by the user, by hand. `dropped` rows repeat an earlier one, `not_drawn` ones are left
    out by a weight below 1. `training` and `evaluation` count each row once, `seen` is how many rows an epoch has.
    """

    total: Count = 0
    ok: Count = 0
    repaired: Count = 0
    rejected: Count = 0
    duplicates: Count = 0
    near_duplicates: Count = 0
    untrainable: Count = 0
    excluded: Count = 0
    dropped: Count = 0
    not_drawn: Count = 0
    training: Count = 0
    evaluation: Count = 0
    seen: Count = 0

    @property
    def per_epoch(self) -> int:
        """Rows that an epoch trains on, each as often as its weight repeats it."""
        return self.seen or self.training


class RowSummary(_Report):
    """A line of the table of rows. `tokens` is None for a rejected row; `original` is the row that this one repeats.

    `key` is for `data.exclude`, empty for a row that could not be read.
    """

    number: Count
    line: Count
    verdict: Verdict
    reason: str = ""
    words: str = ""
    tokens: Amount | None = None
    trained: Amount | None = None
    part: Part = ""
    dataset: str = ""
    key: str = ""
    duplicate: Duplicate = ""
    original: Count | None = None


class SourceReport(SourceFacts):
    """A dataset of the report, with how it is read. `subsets` are all it has, with their splits.

    `unused` are the columns that nothing is learned from, `unread` whatever is not, at every depth: rows by path.
    `proposed` is a mapping of columns by which rejected rows can be read. `readings` are the first characters as each
    text encoding reads them; empty where the file is no text.
    """

    format: str = ""
    forced: bool = False
    mixed: bool = False
    evidence: dict[str, Amount] = Field(default_factory=dict)
    columns: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    unread: dict[str, Amount] = Field(default_factory=dict)
    proposed: dict[str, str] = Field(default_factory=dict)
    container: str = ""
    encoding: str = ""
    files: Count = 0
    size_bytes: Amount = 0
    reasons: dict[str, Amount] = Field(default_factory=dict)
    repairs: dict[str, Amount] = Field(default_factory=dict)
    subsets: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    readings: dict[str, str] = Field(default_factory=dict)


class SourcesReport(_Report):
    """What is known of the datasets before they are read.

    Where a subset or split is still to be chosen, the dataset has its `subsets` and no files.
    """

    sources: tuple[SourceReport, ...] = ()


class LengthStatistics(_Report):
    """Lengths in tokens of all rows that can be trained, before they are cut at `max_length`.

    Bin i of the histogram holds the rows of `edges[i]` up to, not including, `edges[i + 1]` tokens. `rows_beyond[i]`
    and `trained_beyond[i]` are the rows that would be cut, and the answer tokens that would be lost, at a max length of
    `edges[i]`: what a dragged line needs. `quantiles` and `keeps` go by percent: half of the rows have at most
    `quantiles["50"]` tokens; a max length of `keeps["99"]` keeps 99 % of the answer tokens.

    `packs` is how many sequences the training rows fill when they are packed, `attention_growth` how many times as many
    pairs of tokens attention then computes. `row_tokens` is the longest sequence that is trained: a pack where
    `packing`, else a row; so it is with `steps_per_epoch`. The padding shares are those of rows that are padded;
    `padded_because` says why they are with this model. It is empty where rows lie end to end, without any padding.
    """

    rows: Count
    max_length: Amount
    longest: Amount
    shortest: Amount
    total_tokens: Amount
    trained_tokens: Amount
    edges: tuple[Amount, ...]
    counts: tuple[Amount, ...]
    rows_beyond: tuple[Amount, ...]
    trained_beyond: tuple[Amount, ...]
    quantiles: dict[str, Amount]
    keeps: dict[str, Amount]
    cut_rows: Count
    lost_tokens: Amount
    lost_share: Number
    tokens_per_epoch: Amount
    steps_per_epoch: Count
    padding_share: Number
    packed_padding_share: Number
    row_tokens: Amount
    packing: bool = False
    packs: Count = 0
    attention_growth: Number = 1.0
    padded_because: Words = ""

    def sequence_tokens(self, *, packing: bool, max_length: int) -> int | None:
        """Return the longest sequence under other settings, None where these lengths do not tell it."""
        if packing == self.packing and max_length == self.max_length:
            return self.row_tokens
        return None if packing else min(self.longest, max_length)

    @property
    def trained_share(self) -> float:
        """Trained tokens of all tokens."""
        return self.trained_tokens / self.total_tokens if self.total_tokens else 0.0


class DataReport(_Report):
    """A dataset as a run would train on it. `supported` is whether exactly the answers can be trained, `mask` how.

    `refused` holds the sentence that the run would be refused with, or is empty. `verdicts_path` is a JSON Lines file
    with every row that is not ok. The first reports of a job are not `complete`: rows are read and not yet
    tokenized (there are no lengths), then a check is still to come. While rows are still read, those before are not
    even `read`: they have the first rows, and how many there were so far.
    """

    path: str
    model: str = ""
    format: str = ""
    evidence: dict[str, Amount] = {}
    columns: tuple[str, ...] = ()
    encoding: str = ""
    size_bytes: Amount = 0
    rows: RowCounts = RowCounts()
    rejections: tuple[Rejection, ...] = ()
    listing: tuple[RowSummary, ...] = ()
    supported: bool = True
    reason: str = ""
    mask: str = ""
    template: str = ""
    checks: tuple[Check, ...] = ()
    lengths: LengthStatistics | None = None
    refused: str = ""
    read: bool = True
    complete: bool = True
    seconds: Seconds = 0.0
    verdicts_path: str = ""
    sources: tuple[SourceReport, ...] = ()
    evaluation: EvaluationFacts | None = None


def kept_by(keeps: dict[str, int]) -> str:
    """Return in a sentence which max length keeps how much of the answers."""
    parts = [say("{length:,} keeps {part} %", length=keeps[part], part=part) for part in ("95", "99") if part in keeps]
    parts += [say("{length:,} keeps all", length=keeps["100"])] if "100" in keeps else []
    return say("A max length of {parts}.", parts=", ".join(parts)) if parts else ""


def check_json(report: DataReport) -> dict[str, Any]:
    """Return what `check-data --json` prints."""
    return {
        "path": report.path,
        "model": report.model,
        "format": report.format,
        "evidence": report.evidence,
        "columns": list(report.columns),
        "rows": report.rows.model_dump(),
        "sources": [source.model_dump(exclude={"readings"}) for source in report.sources],
        "evaluation": report.evaluation.model_dump() if report.evaluation else None,
        "rejections": [item.model_dump() for item in report.rejections],
        "supported": report.supported,
        "reason": report.reason,
        "mask": report.mask,
        "checks": [check.model_dump() for check in report.checks],
        "lengths": report.lengths.model_dump() if report.lengths else None,
        "refused": report.refused,
        "seconds": report.seconds,
    }


def preview_json(report: DataReport, rows: RowsReport) -> dict[str, Any]:
    """Return what `preview --json` prints: whether the answers can be told exactly, and the rows token by token."""
    return {
        "supported": report.supported,
        "reason": report.reason,
        "mask": report.mask,
        "rows": [_row_json(row) for row in rows.rows],
    }


def _row_json(row: RowPreview) -> dict[str, Any]:
    """Return a row with its tokens by name."""
    found = row.model_dump() | {"tokens": [piece._asdict() for piece in row.tokens]}
    if row.pack is not None:
        for side, rows in (("before", row.pack.before), ("after", row.pack.after)):
            found["pack"][side] = [
                {"number": item.number, "tokens": [piece._asdict() for piece in item.tokens]} for item in rows
            ]
    return found
