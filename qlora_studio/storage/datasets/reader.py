"""The strict reader in front of everything that learns: every row once, each with a verdict, no text changed.

A row is converted in the format that most rows of the dataset look like, or in the one that the config names; a row
that looks like another is rejected, and the reason names its format. Rows of several files are numbered through; line
and offset are within the file.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace

from qlora_studio.core.config.run_config import DatasetSource
from qlora_studio.core.data.formats import (
    MAPPING_KEYS,
    UNKNOWN,
    convert,
    detect,
    foreign_reason,
    form_of_mapping,
)
from qlora_studio.core.data.proposal import proposed_mapping, unknown_reason
from qlora_studio.core.data.row_notes import Reading
from qlora_studio.core.data.row_verdict import ReadRow, RowRefused, RowVerdict
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say
from qlora_studio.storage.datasets.encoding import TextEncoding, readings
from qlora_studio.storage.datasets.files import DatasetFile, LocatedDataset, locate_dataset
from qlora_studio.storage.datasets.record import ROW_LIMIT, Record
from qlora_studio.storage.datasets.record_source import container_name, records_of
from qlora_studio.storage.datasets.stream import BLOCK_SIZE, DatasetStream, Meter
from qlora_studio.storage.datasets.survey import (
    KEPT_REJECTIONS,
    ColumnTally,
    DatasetSurvey,
    FormatTally,
    majority,
    merged,
)

__all__ = ["DatasetReader", "DatasetSurvey", "ReadRow", "RowVerdict", "open_dataset"]

_PROPOSED_FROM = 50  # rejected rows that are looked at for a mapping that reads them
Progress = Callable[[int, int], None]
Cancelled = Callable[[], bool]
Seen = Callable[[ReadRow], None]


def open_dataset(
    source: DatasetSource,
    *,
    found: LocatedDataset | None = None,
    block_size: int = BLOCK_SIZE,
    row_limit: int = ROW_LIMIT,
) -> "DatasetReader":
    """Return a reader of a dataset: of its files as `found`, or of those that lie at its path.

    Raises StudioError of kind data_not_found, data_refused or data_choice. `block_size` is of no account for what is
    read.
    """
    return DatasetReader(source, found or locate_dataset(source), block_size=block_size, row_limit=row_limit)


class FormatMistaken(Exception):
    """Rows were read for what the first of them is, and most of them are not that."""


class DatasetReader:
    """Reads the rows of a dataset, as often as asked; nothing of it stays in memory."""

    def __init__(self, source: DatasetSource, found: LocatedDataset, *, block_size: int, row_limit: int) -> None:
        self.source, self.found, self.files = source, found, found.files
        self._block_size = block_size
        self._row_limit = row_limit
        self._forced = _forced_format(source)
        self._format = self._forced
        self._reading = Reading({part: name for part, name in source.mapping.items() if name})

    def for_template(self, keys: frozenset[str]) -> "DatasetReader":
        """Return a reader that keeps these keys of a message besides those that every template knows."""
        other = copy(self)
        other._reading = replace(self._reading, template_keys=keys)
        return other

    @property
    def total_bytes(self) -> int:
        """The size of all files on the disk."""
        return sum(file.size_bytes for file in self.files)

    def bytes_to_read(self, *, guess: bool = False) -> int:
        """Return the total of the progress that `rows` tells: twice the size where the format is to be detected."""
        return self.total_bytes * (1 if self._format is not None or guess else 2)

    def rows(
        self,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        with_raw: bool = True,
        guess: bool = False,
    ) -> Iterator[ReadRow]:
        """Yield every row with its verdict. Progress is told as (bytes done, bytes in all).

        Raises StudioError: data_refused where a file cannot be read on, interrupted where it was cancelled. Where the
        format is neither given nor known from a survey, all rows are looked at for it first, and the bytes count twice.
        With `guess` they are looked at once, and taken for what the first is; FormatMistaken at the end says that most
        of them are something else. Then the format is known.
        """
        meter = Meter(self.bytes_to_read(guess=guess), progress, cancelled)
        if self._format is None and guess:
            yield from self._guessed(meter, with_raw=with_raw)
            return
        if self._format is None:
            self._format = self._detected(meter)
        form = self._format
        for number, (file, record) in enumerate(self._records(meter, with_raw=with_raw)):
            looks = "" if record.fault else self._forced or detect(record.value)
            yield _read_row(number, file, record, self._fault_of(record, looks, form), looks, self._reading)

    def survey(
        self, *, progress: Progress | None = None, cancelled: Cancelled | None = None, seen: Seen | None = None
    ) -> DatasetSurvey:
        """Read everything once and return what it is; `seen` is called with each row. Raises StudioError as `rows`."""
        meter = Meter(self.total_bytes, progress, cancelled)
        evidence: Counter[str] = Counter()
        tallies: defaultdict[str, FormatTally] = defaultdict(FormatTally)
        columns = ColumnTally()
        proposed: dict[str, str] = {}
        looked_at = 0
        for number, (file, record) in enumerate(self._records(meter)):
            looks = ""
            if not record.fault:
                evidence[detected := detect(record.value)] += 1
                looks = self._forced or detected
                columns.add(record.value)
            row = _read_row(number, file, record, self._fault_of(record, looks, looks), looks, self._reading)
            tallies[looks].add(row)
            if seen is not None:
                seen(row)
            if row.example is None and not record.fault and not proposed and looked_at < _PROPOSED_FROM:
                proposed, looked_at = proposed_mapping(record.value), looked_at + 1
        self._format = self._forced or majority(evidence)
        return self._surveyed(self._format, evidence, tallies, columns, proposed)

    def encoding_readings(self, size: int = 1 << 20) -> dict[str, str]:
        """Return what UTF-8, UTF-16 and Windows-1252 read near the beginning; nothing where the files are no text."""
        file = self.files[0]
        if file.container in ("parquet", "arrow"):
            return {}
        return readings(DatasetStream(file, TextEncoding("utf-8"), Meter(file.size_bytes)).first_bytes(size))

    def _records(self, meter: Meter, *, with_raw: bool = True) -> Iterator[tuple[DatasetFile, Record]]:
        for file in self.files:
            records = records_of(
                file,
                self.source.encoding,
                meter,
                block_size=self._block_size,
                limit=self._row_limit,
                with_raw=with_raw,
            )
            for record in records:
                yield file, record

    def _detected(self, meter: Meter) -> str:
        records = self._records(meter, with_raw=False)
        return majority(Counter(detect(record.value) for _, record in records if not record.fault))

    def _guessed(self, meter: Meter, *, with_raw: bool) -> Iterator[ReadRow]:
        evidence: Counter[str] = Counter()
        form = ""
        for number, (file, record) in enumerate(self._records(meter, with_raw=with_raw)):
            looks = "" if record.fault else detect(record.value)
            if not record.fault:
                evidence[looks] += 1
                form = form or (looks if looks != UNKNOWN else "")
            yield _read_row(number, file, record, self._fault_of(record, looks, form), looks, self._reading)
        self._format = majority(evidence)
        if form and form != self._format:
            raise FormatMistaken(form)

    def _fault_of(self, record: Record, looks: str, form: str) -> str:
        """Return why a row cannot even be converted, or nothing."""
        if record.fault:
            return record.fault
        if looks == UNKNOWN:
            return unknown_reason(record.value)
        return foreign_reason(looks, form) if looks != form else ""

    def _surveyed(
        self,
        form: str,
        evidence: Counter[str],
        tallies: dict[str, FormatTally],
        columns: ColumnTally,
        proposed: dict[str, str],
    ) -> DatasetSurvey:
        parts = [
            tally if looks in (form, UNKNOWN) else tally.as_foreign(foreign_reason(looks, form))
            for looks, tally in tallies.items()
        ]
        exact, near = tallies[form].duplicates() if form in tallies else (0, 0)
        rejections = sorted((row for part in parts for row in part.first_rejections), key=lambda row: row.row)
        return DatasetSurvey(
            path=self.source.path,
            files=tuple(str(file.path) for file in self.files),
            container=container_name(self.files[0], self.source.encoding),
            encoding=self.source.encoding,
            format=form,
            forced=self._forced is not None,
            mixed=sum(1 for looks in evidence if looks != UNKNOWN) > 1,
            evidence=dict(evidence.most_common()),
            columns=columns.counts(),
            unread=merged(part.unread for part in parts),
            proposed=proposed,
            total=sum(part.ok + part.repaired + part.rejected for part in parts),
            ok=sum(part.ok for part in parts),
            repaired=sum(part.repaired for part in parts),
            rejected=sum(part.rejected for part in parts),
            repairs=merged(part.repairs for part in parts),
            reasons=merged(part.reasons for part in parts),
            first_rejections=tuple(rejections[:KEPT_REJECTIONS]),
            exact_duplicates=exact,
            near_duplicates=near,
            size_bytes=self.total_bytes,
        )


def _read_row(number: int, file: DatasetFile, record: Record, fault: str, form: str, reading: Reading) -> ReadRow:
    line, offset, value, _, raw = record
    name = file.path.name
    if fault:
        return ReadRow(number, line, offset, RowVerdict.REJECTED, fault, None, raw, name)
    try:
        example, notes = convert(value, form, reading)
    except RowRefused as error:
        return ReadRow(number, line, offset, RowVerdict.REJECTED, error.reason, None, raw, name)
    verdict, repairs = (RowVerdict.REPAIRED, ", ".join(notes.repairs)) if notes.repairs else (RowVerdict.OK, "")
    return ReadRow(number, line, offset, verdict, repairs, example, raw, name, 0, tuple(notes.unread))


def _forced_format(data: DatasetSource) -> str | None:
    """Return the format that the config names, itself or by its columns. Raises StudioError for columns of no use."""
    unknown = next((key for key in data.mapping if key not in MAPPING_KEYS), None)
    if unknown is not None:
        raise StudioError(
            say("The columns name a part that there is not: {unknown}.", unknown=unknown),
            kind=FailureKind.DATA_REFUSED,
            advice=say("The parts are {mapping_keys}.", mapping_keys=", ".join(MAPPING_KEYS)),
        )
    if data.format != "auto":
        return data.format
    if not any(data.mapping.values()):
        return None
    form = form_of_mapping(data.mapping)
    if form == UNKNOWN and not (data.mapping.get("prompt") or data.mapping.get("completion")):
        return None
    if form == UNKNOWN:
        raise StudioError(
            say("The columns name only half of a pair."),
            kind=FailureKind.DATA_REFUSED,
            advice=say("Choose a column for the prompt and one for the completion, or one for the text."),
        )
    return form
