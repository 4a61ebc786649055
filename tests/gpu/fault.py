"""A process that brings a fault of the card upon itself: `python -m tests.gpu.fault memory | managed | kernel`.

What the program makes of the error is printed, a JSON object; a fault that ends the process prints nothing.
"""

import json
import sys

import torch

from qlora_studio.engine.faults import failure_of

_CHUNK = 256 << 20
_MORE_THAN_ANY = 1 << 60  # bytes: no address space has them, so the driver refuses at once and moves nothing


def main(kind: str) -> None:
    """Bring it about."""
    fault = {"memory": _memory, "managed": _managed, "kernel": _kernel}[kind]
    try:
        fault()
        torch.cuda.synchronize()
    except RuntimeError as error:
        failed = failure_of(error, "train")
        print(json.dumps({"kind": failed.kind, "message": failed.message, "said": str(error)[:300]}), flush=True)


def _memory() -> None:
    """Take the card in pieces until there is nothing left of it."""
    taken = []
    while True:
        taken.append(torch.empty(_CHUNK, dtype=torch.uint8, device="cuda"))


def _managed() -> None:
    """Ask for more managed memory than there can be: bitsandbytes' library calls exit(1)."""
    import ctypes

    from bitsandbytes.cextension import lib

    lib.cget_managed_ptr(ctypes.c_size_t(_MORE_THAN_ANY))


def _kernel() -> None:
    """Look up a row that there is not: the kernel's assertion fails, and the context is broken."""
    table = torch.zeros(4, 4, device="cuda")
    torch.nn.functional.embedding(torch.tensor([1 << 20], device="cuda"), table).sum().item()


if __name__ == "__main__":
    main(sys.argv[1])
