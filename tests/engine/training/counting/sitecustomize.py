"""Put into ranks by PYTHONPATH: counts what torch.distributed adds up or gathers, a line of bytes for each call."""

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

    def _gathering(plain: Any) -> Any:
        def gathered(*tensors: Any, **options: Any) -> Any:
            output = tensors[0] if tensors else options["output_tensor"]
            with (Path(os.environ["COUNTED"]) / str(os.getpid())).open("a") as file:
                file.write(f"gathered {output.nbytes}\n")
            return plain(*tensors, **options)

        return gathered

    for _name in ("all_gather_into_tensor", "all_gather_single"):  # as older and newer versions of FSDP2 call it
        if hasattr(torch.distributed, _name):
            setattr(torch.distributed, _name, _gathering(getattr(torch.distributed, _name)))
