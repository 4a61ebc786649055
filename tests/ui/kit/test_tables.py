"""Rows are copied as text, however many they are, columns are as wide as they need, and what stays the same stays."""

import time

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.ui.kit.fonts import TextSize, set_text_size
from qlora_studio.ui.kit.tables import Column, Table, TableModel
from qlora_studio.ui.kit.theme import LIGHT, apply_theme
from tests.ui.conftest import WaitUntil

COLUMNS = (Column("number", lambda row: f"{row:,}"), Column("square", lambda row: str(row * row)))


def table_of(rows: range) -> Table:
    model = TableModel(COLUMNS)
    table = Table(model, name="numbers")
    model.set_rows(rows)
    model.setParent(table)
    return table


def test_a_hundred_thousand_rows_are_copied_in_less_than_a_second_and_without_a_stall(
    qapp: QApplication, wait_until: WaitUntil
) -> None:
    table, copied = table_of(range(100_000)), list[int]()
    table.copied.connect(copied.append)
    QApplication.clipboard().setText("before")
    worst, began = 0.0, time.thread_time()
    table.copy()
    assert not copied, "all at once"
    while not copied:
        turn = time.thread_time()
        qapp.processEvents()
        worst = max(worst, time.thread_time() - turn)
    assert worst < 0.1 and time.thread_time() - began < 1.0
    lines = QApplication.clipboard().text().split("\n")
    assert lines[0] == "number\tsquare" and lines[-1] == "99,999\t9999800001"
    assert copied == [100_000] and len(lines) == 100_001


def test_selected_rows_are_copied_in_their_order_by_the_keys(qapp: QApplication) -> None:
    table = table_of(range(10))
    table.setSelectionMode(Table.SelectionMode.MultiSelection)
    for row in (7, 2, 3):
        table.selectRow(row)
    QTest.keyClick(table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QApplication.clipboard().text() == "number\tsquare\n2\t4\n3\t9\n7\t49"


def test_a_copy_that_is_begun_while_another_goes_on_takes_its_place(qapp: QApplication, wait_until: WaitUntil) -> None:
    table, copied = table_of(range(100_000)), list[int]()
    table.copied.connect(copied.append)
    table.copy()
    table.selectRow(5)
    table.copy()
    wait_until(lambda: copied)
    qapp.processEvents()
    assert copied == [1] and QApplication.clipboard().text() == "number\tsquare\n5\t25"


@pytest.mark.parametrize("size", ["usual", "largest"])
def test_columns_are_as_wide_as_qt_would_have_them(qapp: QApplication, size: TextSize) -> None:
    table = table_of(range(20))  # filled while it is hidden
    table.resize(600, 400)
    table.show()
    set_text_size(size)
    apply_theme(qapp, LIGHT)
    qapp.processEvents()
    widths = [table.columnWidth(index) for index in range(2)]
    header = table.horizontalHeader()
    wanted = [max(table.sizeHintForColumn(index), header.sectionSizeHint(index)) for index in range(2)]
    set_text_size("usual")
    apply_theme(qapp, LIGHT)
    assert all(0 <= width - hint <= 2 for width, hint in zip(widths, wanted, strict=True)), (widths, wanted)


def test_the_last_of_many_rows_counts_for_the_width_of_its_column(qapp: QApplication) -> None:
    table = table_of(range(100_000))
    table.show()
    shown = [COLUMNS[1].text(row) for row in (0, 99_999)]
    short, long = (table.fontMetrics().horizontalAdvance(text) for text in shown)
    assert table.columnWidth(1) > long > 2 * short


def test_a_few_rows_that_changed_leave_the_selection_and_the_place_where_they_are(qapp: QApplication) -> None:
    table = table_of(range(200))
    model = table.model()
    assert isinstance(model, TableModel)
    model.set_rows(list(range(200)))
    table.resize(300, 200)
    table.show()
    table.selectRow(150)
    table.scrollTo(model.index(150, 0))
    place = table.verticalScrollBar().value()
    model.set_rows([*range(149), 1149, *range(150, 200)])
    assert [index.row() for index in table.selectionModel().selectedRows()] == [150]
    assert place == table.verticalScrollBar().value() > 0
    assert model.index(149, 0).data() == "1,149" and model.rowCount() == 200
    model.set_rows([-row for row in range(200)])
    assert model.index(199, 0).data() == "-199"
