"""A run's whole journey on a real SLURM over a real ssh, by the commands alone: `python -m tests.elsewhere.journey`.

Submitted, waiting, running, paused, resumed, cancelled, out of time, disconnected, its node lost, finished, fetched and
exported here. It makes its own cluster on this computer (cluster.py; Debian's slurm-wlm, munge and openssh-server, as
root), ends it, and writes what it saw to tests/benchmarks/results/elsewhere_journey.md. It takes about half an hour
with the starter model; `… FOLDER` takes the model in a folder, such as the tests' tiny one, and `--short` leaves out
what is lost on the way.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qlora_studio.core.elsewhere.told import elsewhere_words
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Event
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere, read_record, read_told
from qlora_studio.storage.runs.run_folder import RunFolder
from tests.elsewhere.cluster import Cluster, missing

LOG = Path(__file__).parents[1] / "benchmarks" / "results" / "elsewhere_journey.md"
_ROOT = Path(__file__).parents[2]
_PROGRAM = [sys.executable, "-P", "-m", "qlora_studio"]
_SETTINGS = (
    "training.max_steps={steps}",
    "training.batch_size=1",
    "training.gradient_accumulation={batches}",
    "training.max_length=128",
    "data.evaluation_share=0.02",
    "evaluation.every_steps=0",
    "checkpoint.every_steps=20",
    "hardware.gpus=cpu",
    "name=journey",
)


class Journey:
    """The way, step by step. What it expects and does not find ends it."""

    def __init__(self, folder: Path, model: str = "", *, short: bool = False) -> None:
        self.folder, self.model, self.short = folder, model, short
        self.steps, self.batches = (60 if short else 400, 4) if model else (120, 1)
        self.cluster = Cluster(folder / "cluster")
        self.lines: list[str] = []
        self.began = time.monotonic()
        python_path = {"PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "QLORA_STUDIO_HOME": str(folder / "here")}
        self.environment = {**os.environ, **python_path, "PATH": f"{folder}/cluster/bin:{os.environ['PATH']}"}
        os.environ["QLORA_STUDIO_HOME"] = str(folder / "here")

    def go(self) -> None:
        """Take the whole way."""
        self.cluster.start()
        self.say("## The place\n")
        program = f"env PYTHONPATH={_ROOT} OMP_NUM_THREADS=1 {' '.join(_PROGRAM)}"
        there = ("--host", "cluster", "--folder", str(self.folder / "there"), "--program", program)
        self.command("elsewhere", "add", "cluster", *there, "--cards", "0", "--time", "60", "--partition", "debug")
        self.command("elsewhere", "check", "cluster")

        self.say("\n## Waiting, running, pause\n")
        self.cluster.run("sbatch", "--nodes=2", "--output=/dev/null", "--wrap=sleep 900")
        settings = self.settings(self.steps, self.batches)
        told = self.command("elsewhere", "submit", "--preset", "starter", *settings, "--place", "cluster")
        run = RunFolder(told["run_dir"])
        self.see(run, "it waits in the queue", lambda: "waiting" in self.words(run))
        self.cluster.run("scancel", "1")
        self.see(run, "it runs", lambda: "running on n" in self.words(run))
        self.see(run, "curves arrive here", lambda: run.state().step >= 3)
        self.command("pause", str(run.path))
        self.see(run, "it is paused, and the job is over", lambda: self.is_over(run, Phase.PAUSED))

        self.say("\n## Resumed, and cancelled while it runs: the half minute that SLURM leaves is a checkpoint\n")
        step = run.state().step
        self.command("elsewhere", "submit", str(run.path))
        self.see(run, "it goes on from its checkpoint", lambda: run.state().step > step + 1)
        self.command("elsewhere", "cancel", str(run.path))
        self.see(run, "it is paused, and the job is over", lambda: self.is_over(run, Phase.PAUSED))

        if not self.short:
            self.lose(run)
        self.finish(run, there, settings)
        if not self.short:
            self.together(there)

    def settings(self, steps: int, batches: int) -> list[str]:
        """Return the words that say what is trained."""
        items = [item.format(steps=steps, batches=batches) for item in _SETTINGS]
        words = [word for item in items for word in ("--set", item)]
        return words + (["--model", self.model] if self.model else [])

    def lose(self, run: RunFolder) -> None:
        """Run out of time, lose the connection and then the node."""
        self.say("\n## Out of time: SIGTERM before the limit is a pause\n")
        step = run.state().step
        self.command("elsewhere", "add", "cluster", "--time", "3", "--grace-seconds", "30")
        self.command("elsewhere", "submit", str(run.path))
        self.see(run, "it is paused before its time is over", lambda: self.is_over(run, Phase.PAUSED))
        self.say(f"  from step {step} to step {run.state().step}; {self.warning(run)}")

        self.say(
            "\n## Disconnected, and its node lost meanwhile: nothing is concluded, and the scheduler starts it anew\n"
        )
        step = run.state().step
        self.command("elsewhere", "add", "cluster", "--time", "60")
        self.command("elsewhere", "submit", str(run.path))
        self.see(run, "it goes on from its checkpoint", lambda: run.state().step > step + 1)
        self.cluster.kill("sshd")
        self.see(run, "the place is not reached", lambda: "not reached" in self.words(run))
        assert not run.state().phase.is_over
        node = self.cluster.run("squeue", "--noheader", "--format=%N").stdout.strip()
        self.cluster.lose(node)
        self.say(f"  {self.at()} node {node} and all that it did is killed")
        self.cluster.run("scontrol", "update", f"nodename={node}", "state=down", "reason=lost")
        self.cluster.start_sshd()
        before = run.state().step
        self.see(
            run,
            "it runs again, on the other node",
            lambda: "running" in self.words(run) and node not in self.words(run),
        )
        self.see(run, "it goes on from its newest safe checkpoint", lambda: len(run.state().resumptions) >= 4)
        self.say(f"  at step {before} it was lost, and it went on from step {run.state().resumptions[-1]}")
        self.cluster.start_node(node)

    def finish(self, run: RunFolder, there: tuple[str, ...], settings: list[str]) -> None:
        """Have a job refused and another one held, while the run comes to its end; fetch and export."""
        self.say("\n## A job that cannot be, and one that is taken out of the queue\n")
        if not is_open_elsewhere(run.path):
            self.command("elsewhere", "submit", str(run.path))
        self.command("elsewhere", "add", "wrong", *there, "--cards", "0", "--partition", "nowhere")
        self.command("elsewhere", "submit", "--preset", "starter", *settings, "--place", "wrong", fails=True)
        self.command("elsewhere", "add", "later", *there, "--cards", "0", "--options=--hold")
        told = self.command("elsewhere", "submit", "--preset", "starter", *settings, "--place", "later")
        held = RunFolder(told["run_dir"])
        self.see(held, "it is held", lambda: "held by you" in self.words(held))
        self.command("pause", str(held.path))
        self.see(held, "it is paused before it began", lambda: self.is_over(held, Phase.PAUSED))

        self.say("\n## Finished, fetched, exported here\n")
        self.see(run, "it is finished", lambda: self.is_over(run, Phase.FINISHED))
        same = (run.path / "events.jsonl").read_bytes() == (
            self.folder / "there" / run.path.name / "events.jsonl"
        ).read_bytes()
        self.say(f"  events.jsonl here and there are the same, byte for byte: {same}")
        assert same and (run.adapter_path / "manifest.json").is_file()
        self.command("elsewhere", "fetch", str(run.path), "--checkpoint", "last")
        exported = self.command("export", str(run.path), "--to", "safetensors")
        assert exported["verified"]
        self.say(f"  the export is verified, by {len(exported['checks'])} checks")
        self.command("runs")
        steps = [event.step for event in run.events() if event.type == "step_done"]
        again = len(steps) - self.steps
        self.say(f"\nEvery step from 1 to {self.steps} was taken, {again} of them again after the node was lost.")
        assert set(steps) == set(range(1, self.steps + 1))

    def together(self, there: tuple[str, ...]) -> None:
        """Have two nodes train one run: only where their network is trusted; paused, resumed, a node lost, finished."""
        self.say("\n## Two nodes train one run\n")
        steps = 150 if self.model else 40
        settings = self.settings(steps, 2)
        self.command("elsewhere", "add", "pair", *there, "--cards", "0", "--nodes", "2", "--interface", "lo")
        sending = ("elsewhere", "submit", "--preset", "starter", *settings, "--place", "pair")
        self.command(*sending, fails=True)
        run = RunFolder(self.command(*sending, "--trust-network")["run_dir"])
        self.see(run, "it runs on both", lambda: "running on n[1-2]" in self.words(run))
        self.see(run, "curves arrive here", lambda: run.state().step >= 3)
        first, second = self.cluster.listening("n1"), self.cluster.listening("n2")
        self.say(f"  n1 listens on {len(first)} ports, n2 on {len(second)}, all of 127.0.0.1")
        assert (first, second) == (["127.0.0.1"] * 2, ["127.0.0.1"])
        self.command("pause", str(run.path))
        self.see(run, "it is paused, and the job is over", lambda: self.is_over(run, Phase.PAUSED))
        step = run.state().step
        self.command("elsewhere", "submit", str(run.path))
        self.see(run, "both go on from its checkpoint", lambda: run.state().step > step + 1)
        self.cluster.lose("n2")
        self.say(f"  {self.at()} node n2 and all that it did is killed, and comes again")
        self.cluster.run("scontrol", "update", "nodename=n2", "state=down", "reason=lost")
        self.cluster.start_node("n2")
        self.see(run, "both go on from its newest safe checkpoint", lambda: len(run.state().resumptions) >= 2)
        self.see(run, "it is finished", lambda: self.is_over(run, Phase.FINISHED))
        assert {event.step for event in run.events() if event.type == "step_done"} == set(range(1, steps + 1))

    def command(self, *words: str, fails: bool = False) -> Any:
        """Give a command, note what it answers, and return its JSON."""
        shown = " ".join(word for word in words if not word.startswith("training.") and word != "--set")
        asked = subprocess.run(
            [*_PROGRAM, *words, "--json"], env=self.environment, capture_output=True, text=True, check=False
        )
        self.say(f"{self.at()} `qlora-studio {shown}`")
        for line in asked.stderr.splitlines():
            self.say(f"    {line}")
        assert (asked.returncode != 0) == fails, (asked.returncode, asked.stdout, asked.stderr)
        return json.loads(asked.stdout)

    def see(self, run: RunFolder, what: str, is_so: Callable[[], bool], seconds: float = 1800.0) -> None:
        """Wait until something is so; note each time how the run is said to stand."""
        deadline, last = time.monotonic() + seconds, ""
        while not is_so():
            words = f"{self.words(run)}; {run.state().phase.words.lower()}, step {run.state().step}"
            if words != last:
                self.say(f"  {self.at()} {words}")
            last = words
            assert time.monotonic() < deadline, f"not in time: {what}"
            time.sleep(0.5)
        self.say(
            f"- {self.at()} **{what}** ({self.words(run)}; {run.state().phase.words.lower()}, step {run.state().step})"
        )

    def is_over(self, run: RunFolder, phase: Phase) -> bool:
        """Whether a run stands so and its job is over."""
        record = read_record(run.path)
        return record is not None and not record.open and run.state().phase is phase

    def words(self, run: RunFolder) -> str:
        """Return how the run is said to stand."""
        told = read_told(run.path)
        return elsewhere_words(told) if told else ""

    def warning(self, run: RunFolder) -> str:
        """Return the last warning that the run told."""
        return next((event.message for event in reversed(list[Event](run.events())) if event.type == "warned"), "")

    def at(self) -> str:
        """Return how long this has taken."""
        return f"{time.monotonic() - self.began:5.0f} s"

    def say(self, line: str) -> None:
        """Note a line, without this computer's folders."""
        line = line.replace(str(self.folder), "FOLDER").replace(str(_ROOT), "PROGRAM").replace(sys.executable, "python")
        line = line.replace(self.model, "MODEL") if self.model else line
        self.lines.append(line)
        print(line, flush=True)


def main() -> int:
    """Take the journey; return whether it went well."""
    if why := missing():
        print(f"No cluster can be made here: {why}.")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="journey-"))
    words = [word for word in sys.argv[1:] if word != "--short"]
    journey = Journey(folder, *words[:1], short="--short" in sys.argv)
    try:
        journey.go()
    finally:
        journey.cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    made_by = "Written by `python -m tests.elsewhere.journey`, with SLURM 22.05 and OpenSSH 9.2 of Debian 12."
    made_by += " The model is a small one without sense (MODEL)." if journey.model else " The model is the starter."
    head = f"# A run's journey on a cluster\n\n{made_by}\n"
    LOG.write_text("\n".join([head, *journey.lines, ""]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
