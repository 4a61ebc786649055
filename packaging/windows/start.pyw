"""What the Start menu opens: the program, or its setup the first time and after an update. No console is shown."""

import runpy
import sys
from pathlib import Path

sys.argv[1:1] = ["--start"]
runpy.run_path(str(Path(__file__).with_name("set-up.py")), run_name="__main__")
