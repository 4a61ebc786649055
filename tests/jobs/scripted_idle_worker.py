"""A scripted worker that can wait for its run: `SCRIPT idle-worker`, or `SCRIPT worker FOLDER`."""

import sys

from qlora_studio.storage.runs.handed_run import wait_for_run
from tests.jobs import scripted_worker


def main(script: str, role: str, path: str = "") -> int:
    if role == "idle-worker":
        if (given := wait_for_run()) is None:
            return 0
        given.take_over()
        path = str(given.folder)
    return scripted_worker.main(script, path)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
