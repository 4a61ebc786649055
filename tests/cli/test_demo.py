"""The demo, as a newcomer runs it: the real small model, the starter dataset, no display."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.cli.conftest import Outcome

_LOAD = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
inputs = tokenizer.apply_chat_template(
    [{"role": "user", "content": sys.argv[2]}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=60, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def _no_network() -> tuple[str, ...]:
    """Return what starts a program without a network; nothing where the system has no such thing for this user."""
    command = ("unshare", "--map-root-user", "--net")
    may = shutil.which("unshare") is not None and subprocess.run([*command, "true"], check=False).returncode == 0
    return command if may else ()


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_demo_ends_with_a_merged_model_that_has_learned(
    cli: Callable[..., Outcome],
    studio_home: Path,
    run_python: Callable[..., CompletedProcess[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On Linux in a network of its own, without a single interface: with the hub allowed, so that an attempt fails."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    outcome = cli("demo", "--no-window", "--json", home=studio_home, within=_no_network())

    assert outcome.code == 0, outcome.err
    report = outcome.report
    assert list(report) == [
        *("run_dir", "adapter_dir", "merged_dir", "eval_loss_before", "eval_loss_after"),
        *("prompt", "answer_base", "answer_tuned", "seconds"),
    ]
    assert report["eval_loss_after"] < 0.6 * report["eval_loss_before"]
    assert not report["answer_base"].startswith("Log:")
    assert report["answer_tuned"].startswith("Log:")
    told = run_python(_LOAD, report["merged_dir"], report["prompt"]).stdout
    assert told.startswith("Log:")
