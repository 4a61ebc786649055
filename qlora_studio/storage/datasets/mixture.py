"""The datasets of a run, read one after another as if they were one: rows are numbered through all of them."""

from collections.abc import Callable, Iterator, Sequence
from copy import copy

from qlora_studio.core.data.row_verdict import ReadRow
from qlora_studio.storage.datasets.reader import Cancelled, DatasetReader, Progress, Seen
from qlora_studio.storage.datasets.survey import DatasetSurvey


class DatasetMixture:
    """Readers in the order of the config's datasets."""

    def __init__(self, readers: Sequence[DatasetReader]) -> None:
        self.readers = tuple(readers)
        self.names = _distinct([reader.source.name for reader in readers])
        self._totals: list[int | None] = [None] * len(self.readers)

    def for_template(self, keys: frozenset[str]) -> "DatasetMixture":
        """Return the datasets, read for a template that reads these keys of a message."""
        other = copy(self)
        other.readers = tuple(reader.for_template(keys) for reader in self.readers)
        return other

    @property
    def total_bytes(self) -> int:
        """The size of all files on the disk."""
        return sum(reader.total_bytes for reader in self.readers)

    def rows(
        self,
        *,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
        with_raw: bool = True,
        first: int = 0,
        guess: bool = False,
    ) -> Iterator[ReadRow]:
        """Yield every row as `DatasetReader.rows` does; datasets that end before the row `first` are passed over."""
        total, done, number = sum(reader.bytes_to_read(guess=guess) for reader in self.readers), 0, 0
        for index, reader in enumerate(self.readers):
            size, rows = reader.bytes_to_read(guess=guess), self._totals[index]
            if rows is not None and number + rows <= first:
                number += rows
                continue
            began, tell = number, _shifted(progress, done, total)
            for row in reader.rows(progress=tell, cancelled=cancelled, with_raw=with_raw, guess=guess):
                number += 1
                yield row._replace(number=began + row.number, source=index) if index else row
            done += size
            self._totals[index] = number - began

    def surveys(
        self, *, progress: Progress | None = None, cancelled: Cancelled | None = None, seen: Seen | None = None
    ) -> tuple[DatasetSurvey, ...]:
        """Read everything once and return what each dataset is; `seen` is called with each row."""
        found, done, rows = [], 0, 0
        for index, reader in enumerate(self.readers):
            tell = _shifted(progress, done, self.total_bytes)
            survey = reader.survey(progress=tell, cancelled=cancelled, seen=_renumbered(seen, index, rows))
            rows += survey.total
            self._totals[index] = survey.total
            done += reader.total_bytes
            found.append(survey)
        return tuple(found)


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return the names, with a number where several are alike."""
    return tuple(
        f"{name} ({names[: index + 1].count(name)})" if names.count(name) > 1 else name
        for index, name in enumerate(names)
    )


def _renumbered(seen: Seen | None, index: int, before: int) -> Seen | None:
    if seen is None or not index:
        return seen
    return lambda row: seen(row._replace(number=before + row.number, source=index))


def _shifted(progress: Progress | None, before: int, total: int) -> Callable[[int, int], None] | None:
    if progress is None:
        return None
    return lambda done, _total: progress(before + done, total)
