"""A worker that speaks the protocol and does as it is told: `scripted_worker.py SCRIPT FOLDER`.

A script is words separated by commas, and one that is started again plays what stands after the next bar: start,
steps:N, phase:NAME, garbage, half, finish, fail, pause, recover, save:STEP, adapter, say:TEXT, wait_for_stop,
wait_for_pause, wait, signal:NAME, exit:CODE, long:BYTES, child.
"""

import os
import signal
import subprocess
import sys
import time

from qlora_studio.core.errors import FailureKind
from qlora_studio.core.run.commands import Command, Pause, Stop, parse_command
from qlora_studio.core.run.events import (
    AdapterSaved,
    CheckpointSaved,
    Failed,
    Finished,
    Paused,
    PhaseChanged,
    Recovering,
    StepDone,
    TextGenerated,
    WorkerStarted,
)
from qlora_studio.storage.runs import inherited_lock
from qlora_studio.storage.runs.message_log import MessageLogReader, MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder


def main(script: str, path: str) -> int:
    folder = RunFolder(path)
    scripts = script.split("|")
    script = scripts[min(sum(event.type == "worker_started" for event in folder.events()), len(scripts) - 1)]
    if "no_lock" in script.split(",") or os.environ.get(inherited_lock.VARIABLE, "").isdigit():
        return play(script, folder)
    with folder.lock().acquire(timeout=5):
        return play(script, folder)


def play(script: str, folder: RunFolder) -> int:
    code = 0
    with MessageLogWriter(folder.events_path) as log:
        for word in script.split(","):
            name, _, value = word.partition(":")
            match name:
                case "start":
                    log.append(WorkerStarted(job="train", studio="test", pid=os.getpid()))
                case "steps":
                    for step in range(1, int(value) + 1):
                        log.append(StepDone(step=step, total_steps=int(value), epoch=0, loss=1 / step, learning_rate=0))
                case "phase":
                    log.append(PhaseChanged(phase=value))
                case "long":
                    log.append(TextGenerated(request=1, variant="base", text="x" * int(value)))
                case "garbage":
                    write(folder, b'{"type": "from_a_later_version"}\n\xff\xfe\x00 no json\n[1, 2]\n\n' * 100)
                case "half":
                    write(folder, b'{"type": "step_done", "step": 1')
                case "finish":
                    log.append(Finished())
                case "fail":
                    log.append(Failed(kind=FailureKind.DATA_REFUSED, message="The dataset is refused."))
                case "pause":
                    log.append(Paused(step=3, checkpoint="checkpoint-3"))
                case "recover":
                    log.append(
                        Recovering(
                            kind=FailureKind.CARD_LOST, message="Again.", step=1, batch_size=2, gradient_accumulation=8
                        )
                    )
                case "save":
                    saved = {"name": f"checkpoint-{value}", "size_bytes": 1, "seconds": 0.1}
                    log.append(CheckpointSaved(step=int(value), **saved))
                case "adapter":
                    log.append(AdapterSaved(path=str(folder.adapter_path), step=1))
                case "say":
                    print(value, flush=True)
                case "wait_for_stop":
                    log.append(PhaseChanged(phase="saving" if wait_for_stop(folder).save else "stopping"))
                case "wait_for_pause":
                    wait_for(folder, Pause)
                case "wait":
                    time.sleep(600)
                case "child":
                    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
                    log.append(PhaseChanged(phase=f"child {child.pid}"))
                case "signal":
                    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as a shell starts what it puts behind
                        signal.signal(signal.SIGINT, signal.default_int_handler)
                    os.kill(os.getpid(), signal.Signals[value])
                    time.sleep(5)
                case "exit":
                    code = int(value)
    return code


def write(folder: RunFolder, data: bytes) -> None:
    with folder.events_path.open("ab") as file:
        file.write(data)


def wait_for_stop(folder: RunFolder) -> Stop:
    command = wait_for(folder, Stop)
    assert isinstance(command, Stop)
    return command


def wait_for(folder: RunFolder, kind: type[Command]) -> Command:
    reader = MessageLogReader(folder.commands_path, parse_command, offset=int(os.environ["QLORA_STUDIO_COMMANDS_FROM"]))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for command in reader.new():
            if isinstance(command, kind):
                return command
        time.sleep(0.01)
    raise TimeoutError("nobody asked")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
