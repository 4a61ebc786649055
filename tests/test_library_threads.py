import os
import subprocess
import sys
from pathlib import Path

import pytest

_PROGRAM = """
import os
import qlora_studio
import numpy
numpy.ones((600, 600)) @ numpy.ones((600, 600))
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="Linux tells a process's threads in /proc")
def test_numpy_starts_no_threads_that_spin_beside_a_training_run() -> None:
    variables = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    told = subprocess.run([sys.executable, "-c", _PROGRAM], env=variables, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1"
