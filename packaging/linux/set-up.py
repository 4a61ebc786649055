"""Runs the setup out of the wheel that lies beside this file: `python3 -I set-up.py --help`."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent

if sys.version_info < (3, 11):  # noqa: UP036 # whatever Python the system has starts this
    sys.exit("QLoRA Studio needs Python 3.11 or newer; this is " + sys.version.split()[0] + ".")
sys.path.insert(0, str(max(_HERE.glob("qlora_studio-*.whl"))))

from qlora_studio.bootstrap.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main(_HERE, sys.argv[1:]))
