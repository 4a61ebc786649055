"""Whole journeys of a new user, by mouse, and by keyboard alone: to a first answer, and from a table of one's own to a
file that another program reads.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest
from PySide6.QtWidgets import QApplication

from qlora_studio.engine.gguf.llama_cpp import LlamaCpp, has_llama_cpp
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.comparison.table import ComparisonTable
from qlora_studio.ui.data.token_view import TokenView
from qlora_studio.ui.kit.text import Label
from qlora_studio.ui.run.plot_card import PlotCard
from tests.ui.journeys.hands import Hands, Keys, Mouse
from tests.ui.window_driver import picture

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
_ROWS = 30
_PATIENCE = 900.0  # seconds, of the longest wait: a worker that imports and loads on a machine that others use too
_SETTINGS = {
    "LoRA rank": "4",
    "Learning rate": "1e-3",
    "Per-device batch size": "1",
    "Gradient accumulation": "1",
    "Max length": "64",
    "Evaluate every": "4",
    "Steps": "8",
}


@pytest.fixture(params=[Mouse, Keys], ids=["by mouse", "by keyboard alone"])
def hands(request: pytest.FixtureRequest, qapp: QApplication) -> Iterator[Hands]:
    """A new user in front of the window."""
    app_window = AppWindow()
    hands: Hands = request.param(app_window)
    hands.patience = _PATIENCE
    width, _, height = os.environ.get("QLORA_STUDIO_TEST_SIZE", "1280x720").partition("x")
    app_window.window.resize(int(width), int(height))
    app_window.show()
    hands.sit_down()
    yield hands
    hands.leave()


def test_a_new_user_comes_from_the_first_start_to_an_answer(hands: Hands) -> None:
    picture(hands, "a1 first start")
    hands.push("Start training")
    assert hands.window.current_page().title == "Run", "one push is enough"
    see_the_curve_grow(hands, "a2 run")
    hands.push("Stop and save")
    hands.wait(lambda: hands.sees("Continue to Export"), "the end of the run")
    picture(hands, "a3 stopped")
    hands.go_to("Chat")
    hands.put("At most", "12")
    picture(hands, "a4 chat")
    hands.put("Prompt", "What should I pack for a walk?")
    hands.wait(lambda: sum("tokens/s" in text for text in hands.texts()) == 2, "both answers")
    picture(hands, "a5 answers")
    assert all(len(hands.find(f"Answer of the {name} model", Label).text()) > 1 for name in ("tuned", "base"))
    assert hands.notice() is None


def test_a_table_of_ones_own_becomes_a_file_that_llama_cpp_reads(
    hands: Hands, tmp_path: Path, studio_home: Path
) -> None:
    choose_columns(hands, write_table(tmp_path / "tickets of may.csv"))
    look_at_a_row(hands)
    set_up(hands, "rank four")
    pause_and_resume(hands)
    run_again(hands, "rank eight", "8")
    better = compare(hands, studio_home)
    export_best(hands, better)
    read_back(better)
    assert hands.notice() is None


def write_table(path: Path) -> Path:
    """Write a table whose columns are named as no format names them."""
    lines = [f'{100 + n},"Does box {n}, the blue one, open?","Yes: turn key {n} twice."' for n in range(_ROWS)]
    path.write_text("ticket,asked by phone,said by us\n" + "\n".join(lines) + "\n", "utf-8")
    return path


def choose_columns(hands: Hands, table: Path) -> None:
    """Open the table, take a model, and say which column is which."""
    hands.open_file("Choose a file…", table)
    hands.wait(lambda: hands.window.current_page().title == "Data", "the Data page")
    picture(hands, "b1 no model yet")
    hands.push("Choose a model")
    hands.push("Use the starter model")
    hands.wait(lambda: hands.sees("Continue to Data"), "the model's facts")
    picture(hands, "b2 model")
    hands.go_on()
    hands.wait(lambda: hands.reads("asked by phone"), "what the columns are")
    picture(hands, "b3 unknown columns")
    hands.choose("Prompt", "asked by phone")
    hands.choose("Answer", "said by us")
    picture(hands, "b4 columns chosen")
    hands.push("Read with these columns")
    hands.wait(lambda: hands.sees("Continue to Training"), "the rows")
    picture(hands, "b5 rows")


def look_at_a_row(hands: Hands) -> None:
    """See what is trained of the longest row: the answer, and not the question."""
    hands.push("longest")
    tokens = hands.find("Tokens of the row", TokenView)
    hands.wait(tokens.tokens, "tokens")
    trained = "".join(piece.string for piece in tokens.tokens() if piece.trained)
    assert "turn key" in trained
    assert "blue" not in trained
    picture(hands, "b6 tokens")
    hands.go_on()


def set_up(hands: Hands, name: str) -> None:
    """Fill in the form, see that it fits, and start."""
    assert hands.window.current_page().title == "Training"
    hands.put("Name of the run", name)
    if isinstance(hands, Mouse):
        hands.push("Advanced settings of How it is learned")
    for title, value in _SETTINGS.items():
        hands.put(title, value)
    if isinstance(hands, Keys):
        hands.search("Merge at the end")
    hands.tick("Merge at the end", False)
    picture(hands, "b7 form")
    hands.go_on()
    hands.wait(lambda: hands.window.current_page().title == "Run", "the Run page", 20)


def pause_and_resume(hands: Hands) -> None:
    """Pause in the midst, and go on to the end."""
    see_the_curve_grow(hands, "b8 run", points=1)
    hands.push("Pause")
    hands.wait(lambda: hands.sees("Resume"), "the pause")
    picture(hands, "b9 paused")
    assert hands.notice() is None
    hands.push("Resume")
    hands.wait(lambda: hands.sees("Continue to Export"), "the end of the run")
    picture(hands, "b10 finished")


def run_again(hands: Hands, name: str, rank: str) -> None:
    """Change one setting and start a second run."""
    hands.go_to("Training")
    hands.put("Name of the run", name)
    hands.put("LoRA rank", rank)
    hands.go_on()
    hands.wait(lambda: hands.reads(name) and hands.sees("Continue to Export"), "the end of the second run")
    picture(hands, "b11 second run")


def compare(hands: Hands, home: Path) -> RunFolder:
    """Lay both beside each other; return the one with the lower evaluation loss."""
    hands.go_to("Runs")
    picture(hands, "b12 runs")
    hands.select_rows("Runs", 2)
    hands.take_from_menu("More", "Compare")
    hands.wait(lambda: hands.window.current_page().title == "Compare", "the comparison", 20)
    hands.wait(lambda: hands.sees("Runs side by side", ComparisonTable), "both runs")
    lines = hands.find("Runs side by side", ComparisonTable).lines
    hands.wait(lambda: "LoRA rank" in lines.text(), "what differs")
    picture(hands, "b13 compared")
    assert "Max length" not in lines.text(), "what is the same in both is left out"
    hands.push("Back to runs")
    folders = list(run_folders(home / "runs"))
    assert len(folders) == 2
    return min(folders, key=_best_loss)


def export_best(hands: Hands, run: RunFolder) -> None:
    """Export the best checkpoint of a run as GGUF, and wait for the proof."""
    name = run.config().name
    hands.go_to("Export")
    hands.choose("Run", name)
    hands.choose("Checkpoint", "Best by evaluation loss")
    hands.tick("GGUF", True)
    hands.tick("Merged model (safetensors)", False)
    picture(hands, "b14 export")
    hands.go_on()
    hands.wait(lambda: hands.sees("Stop"), "the export's progress")
    verdicts = ("Verification: all hold", "do not hold")
    hands.wait(lambda: any(map(hands.reads, verdicts)) or hands.notice(), "the verification's verdict")
    picture(hands, "b15 exported")


def see_the_curve_grow(hands: Hands, name: str, points: int = 3) -> None:
    """Wait for points on the curve while the run is at work."""
    plots = hands.window.current_page().findChild(PlotCard)
    assert plots is not None
    hands.wait(lambda: plots.is_plot_ready() and len(plots.smoothed_loss()) >= points, "points on the curve")
    picture(hands, name)
    assert hands.sees("Pause"), "it is still at work"


def read_back(run: RunFolder) -> None:
    """The proof is kept beside the file; readers that are no part of the program read it."""
    (file,) = run.path.glob("exports/*/*.gguf")
    proof = json.loads((file.parent / "verification.json").read_text("utf-8"))
    assert proof["verified"] is True
    reader = gguf.GGUFReader(file)
    assert reader.fields["general.architecture"].contents() == "llama"
    assert len(reader.tensors) > 200
    if has_llama_cpp():
        model = LlamaCpp(file)
        prompt = model.tokenize("<|im_start|>user\nDoes box 3, the blue one, open?<|im_end|>\n<|im_start|>assistant\n")
        assert len(model.greedy(prompt, 6)) > 0
        model.close()


def _best_loss(run: RunFolder) -> float:
    best = run.state().best_evaluation
    assert best is not None
    assert best.loss is not None
    return best.loss
