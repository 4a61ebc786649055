"""A worker that costs nothing, for the monkey's window: the standard library alone, and a fate that is drawn.

It speaks the protocol as docs/PROTOCOL.md has it: line by line, by hand. `MONKEY_FATE` is the number that its fate is
drawn from: it ends well, fails, is killed, breaks a line off, or goes on until it is asked to pause or stop.
"""

import fcntl
import json
import math
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

STEPS = 400
_LONGEST_SECONDS = 12.0
_TURN_SECONDS = 0.02


class Worker:
    """One session in one folder."""

    def __init__(self, folder: Path, fate: int) -> None:
        self.folder = folder
        self.dice = random.Random(fate)
        job = folder / "job.json"
        self.job: dict[str, Any] = json.loads(job.read_text("utf-8")) if job.exists() else {"kind": "train"}
        self.step = 0
        self._asked = int(os.environ.get("QLORA_STUDIO_COMMANDS_FROM") or 0)
        self._until = time.monotonic() + _LONGEST_SECONDS

    def work(self) -> None:
        """Live as it was drawn."""
        self.end_torn_line()
        self.tell("worker_started", job=self.job["kind"], studio="monkey", pid=os.getpid())
        self.tell("phase_changed", phase="loading_libraries")
        {"train": self.train, "data": self.read, "chat": self.chat, "download": self.download}.get(
            self.job["kind"], self.other
        )()

    def train(self) -> None:
        """Take steps."""
        self.step = self.last_step()
        end = self.dice.choice(("finish", "finish", "fail", "kill", "torn", "stay", "stay"))
        last = STEPS if end == "finish" else min(STEPS, self.step + self.dice.randrange(1, 150))
        pause = self.dice.choice((0.0, 0.001, 0.01))
        self.tell("training_started", step=self.step, total_steps=STEPS)
        while self.step < last and self.in_time():
            self.step += 1
            self.take_step()
            time.sleep(pause)
            for command in self.commands():
                self.obey(command)
        if end == "stay":
            while self.in_time():
                for command in self.commands():
                    self.obey(command)
                time.sleep(_TURN_SECONDS)
        self.end(end)

    def take_step(self) -> None:
        """Tell a step, and now and then what else happens on the way."""
        loss = 0.9 + 1.3 * math.exp(-self.step / 60) + self.dice.gauss(0, 0.08)
        told = None if self.dice.random() < 0.003 else loss
        facts = {"epoch": self.step / 200, "learning_rate": 2e-4, "gradient_norm": 0.3, "tokens": 1000}
        facts |= {"tokens_per_second": 900.0, "seconds": 0.5, "eta_seconds": (STEPS - self.step) * 0.5}
        self.tell("step_done", step=self.step, total_steps=STEPS, loss=told, **facts)
        if self.step % 50 == 0:
            self.tell("evaluated", step=self.step, loss=loss + 0.05, perplexity=math.exp(loss + 0.05), seconds=1.0)
            self.tell("sample_generated", step=self.step, prompt="<b>Who?</b>", answer="‮ " * self.dice.randrange(60))
        if self.dice.random() < 0.01:
            self.tell("warned", kind="loss_spike", message="The loss <i>rose</i>.")

    def obey(self, command: dict[str, Any]) -> None:
        """Do what is asked."""
        match command.get("type"):
            case "pause":
                self.end("pause")
            case "stop":
                self.end("finish" if command.get("save") else "stop")
            case "evaluate_now":
                self.tell("evaluated", step=self.step, loss=1.0, perplexity=math.e, seconds=1.0)
            case "save_checkpoint":
                name = f"checkpoint-{self.step}"
                self.tell("checkpoint_saved", step=self.step, name=name, size_bytes=1, seconds=0.1)

    def read(self) -> None:
        """Read a dataset: report what was made ready beside this program's home, or fail."""
        self.tell("phase_changed", phase="reading_data")
        for share in range(10):
            self.tell("progressed", what="rows", done=share, total=10)
            time.sleep(self.dice.choice((0.0, 0.02)))
        if self.dice.random() < 0.25:
            self.end(self.dice.choice(("fail", "kill", "torn")))
        reports = json.loads(Path(os.environ["MONKEY_REPORTS"]).read_text("utf-8"))
        path = self.job["config"]["data"]["path"]
        self.tell("reported", kind="dataset", report=reports["dataset"] | {"path": path})
        self.tell("reported", kind="rows", report=reports["rows"] | {"request": 0})
        self.tell("phase_changed", phase="ready")
        while self.in_time():
            for command in self.commands():
                if command.get("type") == "show_rows":
                    self.tell("reported", kind="rows", report=reports["rows"] | {"request": command["request"]})
                elif command.get("type") == "stop":
                    self.end("finish")
            time.sleep(_TURN_SECONDS)
        self.end("finish")

    def chat(self) -> None:
        """Answer."""
        self.tell("phase_changed", phase="ready")
        while self.in_time():
            for command in self.commands():
                if command.get("type") == "stop":
                    self.end("finish")
                for variant in command.get("variants", ()):
                    for word in ("Well ", "<b>", "‮", "\x1b[31m", "then."):
                        self.tell("text_generated", request=command["request"], variant=variant, text=word)
                    done = {"text": "", "done": True, "tokens": 5, "seconds": 0.5}
                    self.tell("text_generated", request=command["request"], variant=variant, **done)
            time.sleep(_TURN_SECONDS)
        self.end(self.dice.choice(("finish", "kill")))

    def download(self) -> None:
        """Download nothing."""
        for share in range(20):
            self.tell("progressed", what="files", done=share, total=20)
            time.sleep(_TURN_SECONDS)
        self.end(self.dice.choice(("fail", "kill", "torn")))

    def other(self) -> None:
        """Fail at whatever else is asked."""
        self.download()

    def end(self, how: str) -> None:
        """End the session."""
        match how:
            case "pause":
                self.tell("paused", step=self.step, checkpoint="")
            case "stop":
                self.tell("finished", status="stopped")
            case "finish" | "stay":
                self.tell("finished")
            case "fail":
                words = "The dataset is <b>refused</b>.\x1b[31m"
                self.tell("failed", kind="data_refused", message=words, advice="Look at the rows.", detail="x\n" * 50)
            case "torn":
                self.write(b'{"type": "step_done", "step": 1')
                os.kill(os.getpid(), signal.SIGKILL)
            case _:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.stdout.flush()
        os._exit(0)

    def end_torn_line(self) -> None:
        """Begin on a line of its own, as every writer does after one that was killed in the midst of a line."""
        path = self.folder / "events.jsonl"
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            self.write(b"\n")

    def last_step(self) -> int:
        """Return the last step of earlier sessions."""
        step = 0
        if (self.folder / "events.jsonl").exists():
            for line in (self.folder / "events.jsonl").read_bytes().splitlines():
                if line.startswith(b'{"version": 1') and b'"step_done"' in line and line.endswith(b"}"):
                    step = json.loads(line)["step"]
        return step

    def commands(self) -> list[dict[str, Any]]:
        """Return what was asked since the last time."""
        path = self.folder / "commands.jsonl"
        if not path.exists():
            return []
        with path.open("rb") as file:
            file.seek(self._asked)
            whole, _, _ = file.read().rpartition(b"\n")
        self._asked += len(whole) + 1 if whole else 0
        return [json.loads(line) for line in whole.splitlines()]

    def in_time(self) -> bool:
        """Whether it may live on."""
        return time.monotonic() < self._until and os.getppid() != 1

    def tell(self, event: str, /, **facts: Any) -> None:
        """Append an event."""
        self.write((json.dumps({"version": 1, "time": time.time(), "type": event, **facts}) + "\n").encode())

    def write(self, data: bytes) -> None:
        """Append bytes."""
        with (self.folder / "events.jsonl").open("ab") as file:
            file.write(data)


def main(folder: Path) -> None:
    """Take the lock, unless it was handed down, and work."""
    if not os.environ.get("QLORA_STUDIO_LOCK", "").isdigit():
        lock = (folder / "run.lock").open("ab")
        for _ in range(100):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.02)
    Worker(folder, int(os.environ.get("MONKEY_FATE") or 0)).work()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
