"""The place that the monkey plays in: a studio home, a user's own files, a desktop that answers, and runs.

What must not be touched is known by its bytes, and looked at again.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QFileDialog

from qlora_studio.core.data.report import (
    Check,
    DataReport,
    LengthStatistics,
    RowCounts,
    RowPreview,
    RowsReport,
    RowSummary,
    TokenPiece,
)
from qlora_studio.jobs import worker_process
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from qlora_studio.storage.settings import Settings, save_settings

WORKER = Path(__file__).with_name("worker.py")
_ROWS = 400
_HOSTILE = ("<b>bold</b>", "\u202eturned", "\x1b[31mred", "a\nb", "{{ x }}", "%s %d", "🦙" * 9, "", "&amp;")
_SAVED = ("report.jsonl", "no such folder/x", ".")
_NAMES = ("rows.jsonl", "own columns.csv", "broken.jsonl", "empty.jsonl", "it's #1 & 100%.jsonl", "picture.png")


class World:
    """Everything around the window, below one folder. `user` holds what belongs to the user alone."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.home, self.user, self.desk, self.saved = (place / name for name in ("home", "user", "desk", "saved"))
        self.dice = random.Random(0)  # answers of the desktop; each action seeds it anew
        self._runs: dict[Path, subprocess.Popen[bytes]] = {}
        for folder in (self.home, self.user, self.desk, self.saved):
            folder.mkdir(parents=True)
        self.files = _users_files(self.user)
        (self.desk / "config").mkdir()  # a dialog of the program's own, answered as it stands, saves where it may
        (self.desk / "config" / "user-dirs.dirs").write_text(f'XDG_DOCUMENTS_DIR="{self.saved}"\n', "utf-8")
        self._answer_as_the_desktop()
        self._known = self._look()
        self._named: set[Path] = set()  # runs folders that settings named

    def begin_run(self, number: float) -> None:
        """Start a run as another program would: the window may follow it."""
        names = ("support-bot", "a & b", "<b>x</b>", "z" * 60)
        config = load_preset("starter").with_value("name", names[int(number * len(names))])
        folder = create_run_folder(self.home / "runs", config.with_value("data.path", str(self.files[0])))
        process = subprocess.Popen([sys.executable, "-S", str(WORKER), str(folder.path)], stderr=subprocess.DEVNULL)
        self._runs[folder.path] = process

    def kill_run(self, number: float) -> None:
        """End one of these runs without a word."""
        alive = [process for process in self._runs.values() if process.poll() is None]
        if alive:
            alive[int(number * len(alive))].kill()

    def remove_run(self, number: float) -> None:
        """Remove the folder of a run that is over, as a user may, beside the window."""
        gone = [path for path, process in self._runs.items() if process.poll() is not None]
        if gone:
            shutil.rmtree(gone[int(number * len(gone))], ignore_errors=True)

    def damage_run(self, number: float) -> None:
        """Leave something in a run's events that nobody can read."""
        for path in list(self._runs)[int(number * len(self._runs)) :][:1]:
            if path.is_dir():
                with (path / "events.jsonl").open("ab") as file:
                    file.write(b'\xff\xfe\x00 no json\n[1, 2]\n{"type": "of a later version"}\n')

    def end(self) -> None:
        """End what was started here or by the window, by its process id."""
        for process in self._runs.values():
            process.kill()
            process.wait()

    def changes(self, settings: Settings) -> list[str]:
        """Return what was changed unasked: the user's files, and anything outside the studio's home."""
        self._named.add(settings.runs_path)
        now = self._look()
        lost = [f"{path} is gone or changed" for path, facts in self._known.items() if now.get(path) != facts]
        new = [path for path in now if path not in self._known and not any(path.is_relative_to(n) for n in self._named)]
        return lost + [f"{path} was written outside the home" for path in new]

    def worker_faults(self) -> list[str]:
        """Return what the workers of this game did wrong themselves: then nothing is tried."""
        logs = [log.read_text("utf-8", "replace") for log in self.home.rglob("worker.log")]
        return [log[-1500:] for log in logs if str(WORKER) in log]

    def _look(self) -> dict[Path, bytes]:
        trash = self.desk / "data" / "Trash"
        files = [path for top in (self.user, self.desk) for path in top.rglob("*") if path.is_file()]
        qts_own = self.desk / "config" / "QtProject.conf"  # where its dialog stood
        return {path: path.read_bytes() for path in files if path != qts_own and not path.is_relative_to(trash)}

    def _answer_as_the_desktop(self) -> None:
        """Take the place of the file dialogs and of the file manager, which are the desktop's, not the program's."""
        saved = [str(self.saved / name) for name in _SAVED]
        files = [str(self.place / "not there"), *map(str, self.files)]
        answers: dict[str, Callable[..., Any]] = {
            "getOpenFileName": lambda *_, **__: (self.dice.choice(["", *files]), ""),
            "getOpenFileNames": lambda *_, **__: (self.dice.sample(files, self.dice.randrange(3)), ""),
            "getExistingDirectory": lambda *_, **__: self.dice.choice(["", *map(str, self.folders())]),
            "getSaveFileName": lambda *_, **__: (self.dice.choice(["", *saved]), ""),
        }
        for name, answer in answers.items():
            setattr(QFileDialog, name, staticmethod(answer))
        services: Any = QDesktopServices
        services.openUrl = staticmethod(lambda url: bool(url.isValid()))

    def folders(self) -> tuple[Path, ...]:
        """Return folders that a user could choose."""
        return (self.user, self.user / "model", self.home / "runs", self.place / "not there")


def make_world(place: Path, *, new: bool) -> World:
    """Make the place and let this process live in it: as for a `new` user, or with what was chosen and run before."""
    for name, folder in {
        "QLORA_STUDIO_HOME": "home",
        "HOME": "desk",
        "XDG_DATA_HOME": "desk/data",
        "XDG_CONFIG_HOME": "desk/config",
        "XDG_CACHE_HOME": "cache",
        "HF_HOME": "hub",
        "TMPDIR": "tmp",
        "PATH": "no programs",  # ssh would look for the computers that are typed
        "MONKEY_REPORTS": "reports.json",
    }.items():
        os.environ[name] = str(place / folder)
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    (place / "tmp").mkdir(parents=True)
    world = World(place)
    os.chdir(world.desk)
    worker_process.WORKER = (sys.executable, "-S", str(WORKER))
    (place / "reports.json").write_text(json.dumps(_reports()), "utf-8")
    save_settings(Settings(idle_worker="none"))
    if new:
        return world
    save_settings(Settings(idle_worker="none", last_model="starter", last_data=str(world.files[0])))
    for number, ending in enumerate(("finished", "failed", "")):
        _past_run(world.home / "runs", number, ending)
    return world


def _past_run(runs: Path, number: int, ending: str) -> RunFolder:
    folder = create_run_folder(runs, load_preset("starter").with_value("name", f"past-{number}"))
    lines: list[dict[str, object]] = [{"type": "worker_started", "job": "train", "studio": "monkey", "pid": 0}]
    for step in range(1, 60 * (number + 1)):
        facts = {"epoch": step / 100, "loss": 2 - step / 200, "learning_rate": 2e-4, "total_steps": 200}
        lines.append({"type": "step_done", "step": step, **facts})
    if ending == "finished":
        folder.adapter_path.mkdir()
        lines += [{"type": "adapter_saved", "path": "adapter", "step": 59}, {"type": "finished"}]
    elif ending:
        lines.append({"type": "failed", "kind": "out_of_memory", "message": "No memory.", "advice": "Take less."})
    with folder.events_path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"version": 1, "time": 1.7e9 + n, **line}) + "\n" for n, line in enumerate(lines))
    return folder


def _users_files(user: Path) -> tuple[Path, ...]:
    chat = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "<b>Hello</b>"}]}
    contents = (
        (json.dumps(chat) + "\n") * 50,
        "question,answer\n" + "Why?,Because\n" * 50,
        '{"messages": [\n\x00\n',
        "",
        (json.dumps(chat) + "\n") * 3,
        "\x89PNG",
    )
    for name, text in zip(_NAMES, contents, strict=True):
        (user / name).write_text(text, "utf-8")
    (user / "model").mkdir()
    (user / "model" / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    return tuple(user / name for name in _NAMES)


def _reports() -> dict[str, Any]:
    """Return what the worker reports of any dataset: rows of every verdict, with hostile words."""
    dice = random.Random(1)
    rows = tuple(
        RowSummary(
            number=number,
            line=number + 1,
            verdict=dice.choice(("ok", "ok", "ok", "repaired", "rejected")),
            words=dice.choice(_HOSTILE),
            reason=dice.choice(("", "not valid <i>JSON</i>")),
            tokens=dice.randrange(1, 3000),
            trained=dice.randrange(1, 500),
            part="training",
            key=f"{number:016x}",
        )
        for number in range(_ROWS)
    )
    tokens = tuple(
        TokenPiece(number, dice.choice(_HOSTILE) or "x", trained=number % 3 == 0, special=number % 17 == 0)
        for number in range(600)
    )
    counts = RowCounts(total=_ROWS, ok=300, repaired=60, rejected=40, training=360)
    dataset = DataReport(
        path="",
        format="messages",
        evidence={"messages": _ROWS},
        columns=("messages",),
        size_bytes=10_000,
        rows=counts,
        listing=rows,
        checks=(Check(name="end", title="Answers end", passed=True, message="2 of 2"),),
        lengths=_lengths(),
        verdicts_path=os.environ["MONKEY_REPORTS"],
    )
    row = RowPreview(number=3, line=4, verdict="ok", raw="{}", text="".join(t.string for t in tokens), tokens=tokens)
    return {"dataset": dataset.model_dump(mode="json"), "rows": RowsReport(rows=(row,)).model_dump(mode="json")}


def _lengths() -> LengthStatistics:
    edges = tuple(range(0, 4097, 128))
    return LengthStatistics(
        rows=360,
        max_length=2048,
        longest=3000,
        shortest=4,
        total_tokens=200_000,
        trained_tokens=60_000,
        edges=edges,
        counts=tuple(11 for _ in edges[1:]),
        rows_beyond=tuple(max(0, 360 - 11 * index) for index in range(len(edges))),
        trained_beyond=tuple(max(0, 60_000 - 2000 * index) for index in range(len(edges))),
        quantiles={"50": 500, "95": 2500, "99": 2900},
        keeps={"95": 2000, "99": 2600, "100": 3000},
        cut_rows=20,
        lost_tokens=900,
        lost_share=0.01,
        tokens_per_epoch=190_000,
        steps_per_epoch=45,
        padding_share=0.2,
        packed_padding_share=0.01,
        row_tokens=2048,
    )
