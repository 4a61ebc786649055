"""Put into ranks by PYTHONPATH: counts what torch.distributed is given to add up, a line of bytes for each call."""

import os
import sys
from pathlib import Path
from typing import Any

if sys.orig_argv[-1] == "rank" or "worker" in sys.orig_argv:
    import torch.distributed

    _plain = torch.distributed.all_reduce

    def _counted(tensor: Any, *arguments: Any, **options: Any) -> Any:
        with (Path(os.environ["COUNTED"]) / str(os.getpid())).open("a") as file:
            file.write(f"{tensor.dtype} {tensor.nbytes}\n")
        return _plain(tensor, *arguments, **options)

    torch.distributed.all_reduce = _counted
