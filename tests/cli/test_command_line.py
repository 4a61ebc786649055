"""Every command explains itself, starts light, and the window is opened only where there is one to open."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from qlora_studio import __version__
from qlora_studio.core.config.run_config_text import from_toml
from tests.cli.conftest import Outcome

Studio = Callable[..., Outcome]
COMMANDS = [
    *("demo", "train", "resume", "watch", "queue", "runs", "merge", "export", "verify", "upload", "chat"),
    *("preview", "check-data", "estimate", "fit", "download", "doctor"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(studio: Studio, command: str) -> None:
    outcome = studio(command, "--help")

    assert outcome.code == 0
    assert "--json" in outcome.out
    assert len(outcome.out.splitlines()) > 8


def test_the_overview_names_every_command(studio: Studio) -> None:
    overview = studio("--help").out

    assert all(f" {command} " in overview or f" {command}\n" in overview for command in COMMANDS)


def test_the_version_is_told(studio: Studio) -> None:
    assert studio("--version").out == f"qlora-studio {__version__}\n"


def test_the_command_line_loads_nothing_heavy(run_python: Callable[..., CompletedProcess[str]]) -> None:
    program = (
        "import sys\n"
        "from qlora_studio.cli.main import run\n"
        "run(['runs', '--json'], open_window=int, self_test=int)\n"
        "heavy = {'torch', 'transformers', 'peft', 'trl', 'datasets', 'bitsandbytes', 'accelerate', 'PySide6', 'gguf',"
        " 'pyarrow', 'pandas'}\n"
        "import json; print(json.dumps(sorted(heavy & set(sys.modules))))\n"
    )

    assert json.loads(run_python(program).stdout.splitlines()[-1]) == []


def test_without_a_command_the_window_opens(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")

    assert studio().code == 111


def test_with_a_display_the_demo_opens_the_window(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":0")

    assert studio("demo").code == 112


def test_the_self_test_is_asked_for_with_json_or_without(studio: Studio) -> None:
    assert studio("--self-test").code == 113
    assert studio("--self-test", "--json").code == 114


def test_an_estimate_needs_neither_card_nor_download(studio: Studio) -> None:
    report = studio("estimate", "--model", "Qwen/Qwen3-8B", "--batch", "2", "--length", "1024", "--rank", "64",
                    "--gpu", "RTX 4090", "--json").report  # fmt: skip

    assert report["total_bytes"] == sum(report["components"].values())
    assert 14 << 30 < report["total_bytes"] < 24 << 30, "spare memory is used"
    assert "to spare" in report["notes"][-1]
    assert report["gpu"]["verdict"] == "fits"
    assert report["level"] == "instant"


def test_a_larger_batch_takes_more(studio: Studio) -> None:
    sizes = [
        studio("estimate", "--model", "Qwen/Qwen3-8B", "--batch", batch, "--json").report["total_bytes"]
        for batch in ("1", "4")
    ]

    assert sizes[0] < sizes[1]


def test_fit_proposes_what_fits_and_keeps_the_effective_batch(studio: Studio, tmp_path: Path) -> None:
    run_file = tmp_path / "fits.toml"
    arguments = ["--model", "Qwen/Qwen3-8B", "--batch", "8", "--accumulation", "2", "--gpu", "RTX 3060 12 GB"]

    report = studio("fit", *arguments, "--write", str(run_file), "--json").report
    judged = studio("estimate", str(run_file), "--gpu", "RTX 3060 12 GB", "--json").report

    changes = report["changes"]
    assert changes["training.batch_size"] * changes["training.gradient_accumulation"] == 16
    assert judged["gpu"]["verdict"] == "fits"


def test_the_fastest_fit_tells_its_rate_and_why_and_another_card_none(studio: Studio) -> None:
    arguments = ["--model", "Qwen/Qwen3-8B", "--checkpointing", "on"]

    told = studio("fit", *arguments, "--gpu", "RTX 4090").out
    report = studio("fit", *arguments, "--gpu", "RTX 4090", "--json").report
    estimated = studio("estimate", *arguments, "--gpu", "RTX 4090", "--json").report
    unknown = studio("estimate", *arguments, "--gpu", "GTX 1080 Ti", "--json").report

    assert f"{report['gain']:.1f} × as fast as now" in told
    assert report["rate"]["tokens_per_second"] > 1.1 * estimated["rate"]["tokens_per_second"]
    assert unknown["rate"] is None


def test_what_can_never_fit_has_an_exit_code_of_its_own(studio: Studio) -> None:
    outcome = studio("fit", "--model", "meta-llama/Llama-3.3-70B-Instruct", "--gpu", "RTX 4060 8 GB", "--json")

    assert outcome.code == 32
    assert outcome.report["gpu"]["verdict"] == "no"


def test_rank_and_rate_follow_the_size_of_the_model_unless_they_are_set(studio: Studio, tmp_path: Path) -> None:
    ranks = {}
    for name, extra in {"advised": [], "chosen": ["--rank", "8"]}.items():
        run_file = tmp_path / f"{name}.toml"
        studio("fit", "--model", "Qwen/Qwen3-8B", "--gpu", "H100", "--write", str(run_file), *extra)
        ranks[name] = next(line for line in run_file.read_text().splitlines() if line.startswith("rank"))

    assert ranks == {"advised": "rank = 64", "chosen": "rank = 8"}


def test_several_datasets_are_named_with_their_weights(studio: Studio, tmp_path: Path) -> None:
    run_file = tmp_path / "both.toml"
    named = ["--model", "Qwen/Qwen3-8B", "--gpu", "H100", "--data", "maker/one", "--data", "maker/two"]

    studio("fit", *named, "--weights", "1,0.5", "--write", str(run_file))
    refused = studio("fit", *named, "--weights", "1", "--json")

    data = from_toml(run_file.read_text("utf-8")).data
    assert [(source.path, source.weight) for source in data.sources] == [("maker/one", 1.0), ("maker/two", 0.5)]
    assert refused.code == 20
    assert "as many weights as datasets" in refused.report["error"]["message"]


def test_the_doctor_finds_this_installation_in_order(studio: Studio) -> None:
    outcome = studio("doctor", "--json")

    checks = {check["name"]: check for check in outcome.report["checks"]}
    assert outcome.code == 0
    assert outcome.report["ok"]
    assert {"Python", "Driver", "PyTorch", "bitsandbytes", "Memory", "Disk", "Starter model"} <= set(checks)
    assert checks["bitsandbytes"]["level"] == "ok"
