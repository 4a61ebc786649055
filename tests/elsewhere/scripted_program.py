"""Plays the program of a place, as its job scripts start it: `scripted_program.py SCRIPT elsewhere work RUN …`.

Asked what it is (`elsewhere about`), it says that it is of the version that is here.

A script is words separated by commas: start, steps:N, wait (for Pause or Stop), adapter, finish, wait_for:FILE, exit:N.
"""

import json
import sys
import time
from pathlib import Path

from qlora_studio import __version__
from qlora_studio.core.run.commands import Pause, Stop, parse_command
from qlora_studio.core.run.events import AdapterSaved, Finished, Paused, StepDone, WorkerStarted
from qlora_studio.core.run.message import PROTOCOL_VERSION
from qlora_studio.storage.durable import staged_folder
from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest
from qlora_studio.storage.runs.message_log import MessageLogReader, MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder


def main(script: str, path: str) -> int:
    folder = RunFolder(path)
    offset = folder.commands_path.stat().st_size if folder.commands_path.exists() else 0
    asked = MessageLogReader(folder.commands_path, parse_command, offset=offset)
    step = folder.state().step
    with MessageLogWriter(folder.events_path) as log:
        for word in script.split(","):
            name, _, value = word.partition(":")
            match name:
                case "start":
                    log.append(WorkerStarted(job="train", studio="test", pid=1))
                case "steps":
                    for _ in range(int(value)):
                        step += 1
                        log.append(StepDone(step=step, total_steps=99, epoch=0, loss=1 / step, learning_rate=0))
                case "adapter":
                    with staged_folder(folder.adapter_path) as staged:
                        (staged.path / "adapter_model.safetensors").write_bytes(bytes(range(256)) * 1000)
                        staged.manifest = CheckpointManifest(step=step)
                    if value:
                        (folder.adapter_path / "adapter_model.safetensors").write_bytes(b"damaged")
                    log.append(AdapterSaved(path=str(folder.adapter_path), step=step))
                case "wait":
                    while not any(isinstance(command, Pause | Stop) for command in asked.new()):
                        time.sleep(0.05)
                    log.append(Paused(step=step, checkpoint=f"checkpoint-{step}"))
                case "wait_for":
                    while not Path(value).exists():
                        time.sleep(0.05)
                case "finish":
                    log.append(Finished())
                case "exit":
                    print("the last words of a library")
                    return int(value)
    return 0


if __name__ == "__main__":
    if sys.argv[3] == "about":
        print(json.dumps({"studio": __version__, "protocol": PROTOCOL_VERSION}))
        sys.exit()
    sys.exit(main(sys.argv[1], sys.argv[4]))
