"""Swift imports put off work, and change nothing of what is imported."""

import gc
from collections.abc import Callable
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
