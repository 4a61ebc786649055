"""What the comparison page says of runs, as values."""

import numpy as np
from PySide6.QtWidgets import QApplication

from qlora_studio.core.comparison.comparison import compare
from qlora_studio.core.comparison.run_record import HELD_OUT, Curve, RunReading, RunRecord
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.ui.comparison.table import ComparisonTable
from qlora_studio.ui.comparison.view import TableLine, heading, metric_titles, short_names, table_lines, table_text


def _run(name: str, **values: object) -> RunRecord:
    config = RunConfig(name=name)
    for path, value in values.items():
        config = config.with_value(path.replace("__", "."), value)
    return RunReading().record(name, f"/runs/{name}", config, Fingerprints())


def test_the_line_below_the_heading_says_in_what_the_runs_differ() -> None:
    alike, other = _run("a"), _run("b", lora__rank=8, training__epochs=3.0)

    assert heading(compare([alike, other]), 0) == ("Compare 2 runs", "They differ in LoRA rank, Epochs.")
    assert heading(compare([alike, _run("b")]), 0)[1] == "All settings are the same."
    assert heading(compare([alike]), 2) == ("Compare 3 runs", "Reading: 1 of 3 …")
    assert heading(compare([]), 0)[0] == "Compare runs"


def test_many_differences_are_counted_after_the_first_four() -> None:
    other = _run("b", lora__rank=8, lora__alpha=8, lora__dropout=0.1, training__epochs=3.0, training__batch_size=4)

    assert heading(compare([_run("a"), other]), 0)[1].endswith("LoRA dropout, Epochs and 1 more.")


def test_four_runs_stand_side_by_side_in_the_least_window_with_each_value_whole(qapp: QApplication) -> None:
    runs = [_run(f"bot-{length}", training__max_length=length) for length in (1024, 2048, 4096, 8192)]
    (length,) = [line for line in table_lines(compare(runs), everything=False) if line.title.startswith("Max length")]
    assert (length.title, length.cells) == ("Max length (tokens)", ("1024", "2048", "4096", "8192"))
    cells = {"Steps": "790 of 790", "Held-out loss, before": "2.2700", "Training time": "1 h 15 min"}
    best = TableLine("Held-out loss, best", ("0.9495", "0.9501", "0.9512", "0.9533"), best=(0,), other=(False,) * 4)
    no = (False,) * 4
    lines = [length, best, *(TableLine(title, (text,) * 4, other=no) for title, text in cells.items())]
    table = ComparisonTable()
    table.resize(518, 400)  # in a window of 1024 pixels
    table.show_lines(["first", "wider", "hotter", "longer"], ["support-bot"] * 4, lines)
    table.show()
    qapp.processEvents()
    assert table.horizontalScrollBar().maximum() == 0
    assert all(table.columnWidth(column) >= table.sizeHintForColumn(column) for column in range(4))


def test_names_lose_the_words_that_all_begin_with_and_never_everything() -> None:
    assert short_names(["my run rank=8", "my run rank=16"]) == ("rank=8", "rank=16")
    assert short_names(["my run", "my run rank=16"]) == ("run", "run rank=16")
    assert short_names(["a", "b"]) == ("a", "b")
    assert short_names(["bot-wider", "bot-longer"]) == ("wider", "longer")
    assert short_names(["rate=1e-4", "rate=1e-5"]) == ("rate=1e-4", "rate=1e-5")
    assert short_names(["alone rank=8"]) == ("alone rank=8",)


def test_the_table_shows_what_differs_and_marks_it_where_everything_is_shown() -> None:
    comparison = compare([_run("a"), _run("b", lora__rank=8)])

    brief = {line.title: line for line in table_lines(comparison, everything=False)}
    whole = {line.title: line for line in table_lines(comparison, everything=True)}

    assert brief["LoRA rank"].cells == ("16", "8")
    assert brief["LoRA rank"].other == (False, True)
    assert "LoRA alpha" not in brief
    assert "Data, what differs" not in brief  # a group without lines has no heading
    assert whole["LoRA rank"].marked
    assert not whole["LoRA alpha"].marked
    assert not whole["State"].marked


def test_copied_cells_hold_no_tab_and_no_line_end_of_their_own() -> None:
    lines = [TableLine("Results"), TableLine("State", ("a\tb", "c\nd"))]

    assert table_text(["x", "y"], lines) == "\tx\ty\nResults\nState\ta b\tc d"


def test_only_metrics_that_some_run_told_are_offered() -> None:
    nothing, some = Curve(*[np.empty(0)] * 4), Curve(*[np.array([1.0])] * 4)
    gaps = Curve(some.step, some.tokens, some.hours, np.array([np.nan]))
    record = RunRecord("a", "/a", RunConfig(), _run("a").state, curves={HELD_OUT: nothing, "loss": some})
    other = RunRecord("b", "/b", RunConfig(), _run("b").state, curves={"learning_rate": gaps})

    assert metric_titles([record, other]) == {"loss": "Training loss"}
