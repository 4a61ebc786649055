"""Swift imports put off work, and change nothing of what is imported."""

import gc
import json
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from qlora_studio.engine.swift_imports import swift_imports


class Backend:
    """A compiler of torch that counts what it is given."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


def test_a_function_is_compiled_at_its_first_call_with_the_options_that_were_named() -> None:
    backend = Backend()
    with swift_imports():

        @torch.compile(backend=backend, dynamic=False)
        def twice(number: torch.Tensor) -> torch.Tensor:
            """Documented."""
            return number * 2

        plain = torch.compile(lambda number: number + 1, backend=backend)

    assert backend.count == 0
    assert (twice(torch.tensor(3)).item(), plain(torch.tensor(3)).item()) == (6, 4)
    assert twice(torch.tensor(4)).item() == 8
    assert backend.count == 2
    assert twice.__doc__ == "Documented."


def test_what_is_no_function_is_compiled_at_once() -> None:
    model = torch.nn.Linear(1, 1)

    with swift_imports():
        assert isinstance(torch.compile(model), type(torch.compile(model, backend=Backend())))


def test_an_import_that_fails_leaves_everything_as_it_was() -> None:
    compiled = torch.compile

    with pytest.raises(ImportError), swift_imports():
        assert not gc.isenabled()
        import no_such_library  # type: ignore[import-not-found]  # noqa: F401

    assert gc.isenabled()
    assert torch.compile is compiled


def test_a_run_loads_neither_the_compiler_nor_the_window_and_has_its_libraries_whole(
    run_python: Callable[..., CompletedProcess[str]],
) -> None:
    program = (
        "import gc, json, sys\n"
        "from qlora_studio.engine.swift_imports import swift_imports\n"
        "with swift_imports():\n"
        "    import qlora_studio.engine.training.job\n"
        "unwanted = {'torch._inductor.compile_fx', 'torch._inductor.codecache', 'PySide6'} & set(sys.modules)\n"
        "import torch\n"
        "from bitsandbytes.backends.default.ops import _dequantize_blockwise_compute as dequantized\n"
        "torch.compiler.set_stance('force_eager')\n"
        "bytes, scale, code = torch.tensor([1, 0], dtype=torch.uint8), torch.tensor([3.0]), torch.tensor([1.0, 2.0])\n"
        "numbers = dequantized(bytes, scale, code, 2, torch.float32).tolist()\n"
        "print(json.dumps([sorted(unwanted), numbers, gc.get_freeze_count() > 100_000]))\n"
    )

    unwanted, numbers, frozen = json.loads(run_python(program).stdout.splitlines()[-1])

    assert (unwanted, frozen) == ([], True)
    assert numbers == [6.0, 3.0]
