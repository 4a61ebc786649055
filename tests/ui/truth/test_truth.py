"""Whatever is chosen, undone and looked at in whatever order: what the window says is true of what there is now.

Once the window has come to rest after each act, it is held to an oracle that shares no code with it (`oracle.py`).
"""

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from qlora_studio.cli.main import run
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.settings import Settings, save_settings
from qlora_studio.ui.app import AppWindow
from qlora_studio.ui.model.page import ModelPage
from tests.engine.training_run import write_rows
from tests.ui.truth import oracle
from tests.ui.truth.hand import Hand, said, times_read

WaitUntil = Callable[[Callable[[], object]], None]
_DEFAULTS = RunConfig().model_dump(mode="json")
_ACTS, _MORE_ACTS = 24, 30
_STILL_SECONDS, _PATIENCE = 0.15, 120.0  # on a machine that others use too
_SCALES = {"": 1, "K": 1e3, "k": 1e3, "M": 1e6, "B": 1e9}


@pytest.fixture
def app_window(qapp: QApplication, studio_home: Path, wait_until: WaitUntil) -> Iterator[AppWindow]:
    save_settings(Settings(idle_worker="none"))
    app_window, done = AppWindow(), list[bool]()
    app_window.completed.connect(lambda: done.append(True))
    app_window.window.resize(1280, 720)
    app_window.show()
    wait_until(lambda: done)
    app_window.window.activateWindow()
    wait_until(app_window.window.isActiveWindow)
    yield app_window
    app_window.destroy()


@pytest.mark.parametrize("seed", [1, 2])
def test_what_the_window_says_is_true_after_each_of_many_acts(
    app_window: AppWindow, tiny_llama: Path, tmp_path: Path, studio_home: Path, seed: int
) -> None:
    hand = Hand(app_window, [tiny_llama, tmp_path / "moved away"], [], seed)
    _play(app_window, hand, _ACTS, tmp_path, studio_home)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2))
def test_what_the_window_says_of_data_is_true_after_each_of_many_acts(
    app_window: AppWindow, tiny_llama: Path, tmp_path: Path, studio_home: Path, seed: int
) -> None:
    assert app_window.studio is not None
    app_window.studio.draft.set_value("data.evaluation_share", 0.0)
    data = [write_rows(tmp_path / "few.jsonl", 12), write_rows(tmp_path / "more.jsonl", 40)]
    hand = Hand(app_window, [tiny_llama, tmp_path / "moved away"], data, seed)
    _play(app_window, hand, _MORE_ACTS, tmp_path, studio_home)


def test_a_model_that_is_missing_is_told_once_where_it_can_be_mended(
    app_window: AppWindow, tmp_path: Path, wait_until: WaitUntil
) -> None:
    assert app_window.studio is not None
    page = next(page for page in app_window.window.pages.values() if isinstance(page, ModelPage))
    app_window.window.show_page(page.name)
    app_window.studio.draft.set_value("model.source", str(tmp_path / "moved away"))
    wait_until(lambda: page.notice.isVisible())
    assert times_read(page, "There is no model at") == 1
    app_window.window.show_page("data")
    assert times_read(page, "There is no model at") == 0 and times_read(page, "The Model page says") == 1


def _play(app_window: AppWindow, hand: Hand, acts: int, place: Path, home: Path) -> None:
    done: list[str] = []
    for _ in range(acts):
        done.append(hand.act())
        draft = _at_rest(app_window)
        wanted = _truth(app_window, draft, place, home)
        if hand.taken:
            assert hand.taken in wanted["preset"]  # type: ignore[operator]
            wanted["preset"] = {hand.taken}
        until = time.monotonic() + _PATIENCE
        while wrong := _lies(wanted, said(app_window)):
            assert time.monotonic() < until, f"{wrong}\nafter\n" + "\n".join(done)
            QTest.qWait(20)


def _at_rest(app_window: AppWindow) -> oracle.Draft:
    """Return the draft once it changes no more by itself."""
    assert app_window.studio is not None
    before: object = None
    while before != (before := app_window.studio.draft.config):
        QTest.qWait(int(1000 * _STILL_SECONDS))
    return app_window.studio.draft.config.model_dump(mode="json")


def _truth(app_window: AppWindow, draft: oracle.Draft, place: Path, home: Path) -> dict[str, object]:
    settings = json.loads((home / "settings.json").read_text("utf-8"))
    source, data, training = draft["model"]["source"], draft["data"]["path"], draft["training"]
    here = oracle.is_here(source)
    is_read = bool(here and data and app_window.window.current_page().name in ("data", "training"))
    counted, asked = (0, 0), draft
    if is_read and source != "starter":
        counted = oracle.trained_tokens(draft)
        asked = {**draft, "training": {**training, "max_length": counted[1]}}
    memory: dict[str, str | None] = {"all": None}
    if here:
        memory = oracle.estimate(asked, settings["assumed_gpu"], place, _command)
    return {
        "preset": oracle.presets(draft, _DEFAULTS) or {""},
        "tile Effective batch": f"{training['batch_size'] * training['gradient_accumulation']}",
        "step Model": "done" if here else "needs attention" if source else "to do",
        "dark": settings["theme"] == "dark",
        "offline": settings["offline"],
        **(_of_data(draft, counted[0], memory) if is_read else _without_data(draft, here=here)),
        **({f"memory {name}": size for name, size in memory.items()} if counted[1] or not (here and data) else {}),
    }


def _without_data(draft: oracle.Draft, *, here: bool) -> dict[str, object]:
    """Return what is said where the rows are not looked at: of them nothing, unless they were looked at before."""
    if not draft["data"]["path"]:
        return {"step Data": "to do", "step Training": "blocked", "tile Tokens to learn from": "–"}
    return {} if here else {"step Data": "blocked", "step Training": "blocked", "tile Tokens to learn from": "–"}


def _of_data(draft: oracle.Draft, trained: int, memory: dict[str, str | None]) -> dict[str, object]:
    is_refused, is_doubtful = oracle.checks(draft, _command)
    data = "needs attention" if is_refused or is_doubtful else "done"
    fits = memory.get("fit") != "does not fit"
    said = {"step Data": data, "step Training": "blocked" if is_refused else "done" if fits else "needs attention"}
    if not trained:
        return {**said}
    training, rows = draft["training"], len(Path(draft["data"]["path"]).read_text("utf-8").splitlines())
    per_epoch = math.ceil(math.ceil(rows / training["batch_size"]) / training["gradient_accumulation"])
    total = training["max_steps"] or math.ceil(training["epochs"] * per_epoch)
    return {**said, "tile Tokens to learn from": trained * total / per_epoch}


def _lies(wanted: dict[str, object], said: dict[str, object]) -> list[str]:
    absent = [name for name in said if name.startswith("memory ") and name not in wanted and "memory all" in wanted]
    shown = {name: value for name, value in wanted.items() if name != "offline" or name in said}
    wrong = [name for name, value in shown.items() if not _same(value, said.get(name))]
    return [f"{name}: it says {said.get(name)!r}, and {wanted.get(name)!r} is true" for name in [*wrong, *absent]]


def _same(wanted: object, said: object) -> bool:
    """Whether a value is said, or one of several; a number within the figures that are shown."""
    if isinstance(wanted, set):
        return said in wanted
    if not isinstance(wanted, float):
        return wanted == said
    number = re.fullmatch(r"([\d.,]+) ?([KkMB]?)", str(said))
    return number is not None and abs(float(number[1].replace(",", "")) * _SCALES[number[2]] / wanted - 1) < 0.006


def _command(*arguments: str) -> tuple[int, str]:
    """Run the command line in this process."""
    out: Any = StringIO()
    with redirect_stdout(out), redirect_stderr(StringIO()):
        code = run(arguments, open_window=lambda _demo: 1, self_test=lambda _as_json: 1)
    return code, out.getvalue()
