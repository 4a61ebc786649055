"""By what rows are told to be equal, or nearly: 8 bytes each, so that a million rows take little memory."""

from array import array
from typing import Any

import numpy

from qlora_studio.core.data.example import Example
from qlora_studio.core.data.split import Keys


class RowKeys:
    """The keys of the rows that can be trained, and the dataset that each is from."""

    def __init__(self) -> None:
        self._exact, self._near, self._sources = array("Q"), array("Q"), array("H")

    def add(self, example: Example, source: int) -> None:
        """Add a row."""
        exact, near = example.keys()
        self._exact.append(int.from_bytes(exact[:8], "little"))
        self._near.append(int.from_bytes(near[:8], "little"))
        self._sources.append(source)

    def exact(self) -> Keys:
        """Return the keys that are equal for equal rows."""
        return numpy.array(self._exact, dtype=numpy.uint64)

    def near(self) -> Keys:
        """Return the keys that are equal for rows which differ in case, white space and punctuation only."""
        return numpy.array(self._near, dtype=numpy.uint64)

    def sources(self) -> Any:
        """Return the index of each row's dataset."""
        return numpy.array(self._sources, dtype=numpy.int64)
