"""What a worker imports while it waits: all that a run needs, or all that leaves a card alone."""

import json
from collections.abc import Callable
from subprocess import CompletedProcess

_PROGRAM = """
import gc, importlib.util, json, sys
from qlora_studio.engine import idle_worker
for names in (idle_worker._BEFORE_BITSANDBYTES, idle_worker._RUN):
    idle_worker._import(names)
    import torch
    missing = [name for name in names if name not in sys.modules]
    card = {"bitsandbytes", "peft"} & set(sys.modules)
    compiler = {"torch._inductor.compile_fx", "torch._inductor.codecache", "PySide6"} & set(sys.modules)
    print(json.dumps([missing, sorted(card), sorted(compiler), torch.cuda.is_initialized(), gc.get_freeze_count()]))
from bitsandbytes.backends.default.ops import _dequantize_blockwise_compute as dequantized
torch.compiler.set_stance("force_eager")
bytes, scale, code = torch.tensor([1, 0], dtype=torch.uint8), torch.tensor([3.0]), torch.tensor([1.0, 2.0])
print(dequantized(bytes, scale, code, 2, torch.float32).tolist())
"""


def test_a_card_is_left_alone_until_there_is_a_run_and_no_compiler_is_loaded(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    *told, numbers = run_python(_PROGRAM).stdout.splitlines()[-3:]
    before, all_of_it = map(json.loads, told)

    assert before[:4] == [[], [], [], False]
    assert all_of_it[:4] == [[], ["bitsandbytes", "peft"], [], False]
    assert all_of_it[4] > before[4] > 100_000
    assert numbers == "[6.0, 3.0]"
