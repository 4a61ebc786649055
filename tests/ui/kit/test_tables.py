"""Rows are copied as text, and however many they are, the window answers meanwhile."""

import time

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.ui.kit.tables import Column, Table, TableModel
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
