"""The setup as a process: it is killed and goes on, starts the program, and leaves nothing."""

import subprocess
from pathlib import Path

import pytest

from qlora_studio.bootstrap.places import Places
from tests.bootstrap.conftest import Index, Setup, package_of


@pytest.mark.slow  # make dist-check does it, too
def test_a_setup_that_was_killed_goes_on_fetches_nothing_twice_and_leaves_nothing(setup: Setup, index: Index) -> None:
    index.holds = lambda name: name.startswith("torch-") and (setup.program / "wheels").is_dir()
    process = setup.started("--text", "--torch", "usual")
    assert index.reached.wait(120)
    process.kill()
    process.communicate()
    assert (setup.program / "wheels" / "trl-1.0-py3-none-any.whl").is_file()
    assert Places(setup.program).current() is None
    index.holds = lambda name: False
    index.let_go.set()
    index.asked.clear()

    code, said = setup.run("--text", "--torch", "usual")

    assert code == 0, said
    asked = [name.split("-")[0] for name in index.asked]  # a pip of before 25 fetches to choose, too
    assert asked.count("trl") == asked.count("torch") - 1
    assert setup.run("--start", "runs", "--json") == (0, "program 1.0 runs --json\n")
    assert not (setup.program / "wheels").exists()
    code, said = setup.run("--remove")
    assert code == 0 and str(setup.program) in said
    assert not setup.program.exists()


@pytest.mark.slow
def test_a_folder_of_wheels_is_collected_and_used_without_a_network(setup: Setup, index: Index, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    assert setup.run("--collect", str(wheels), "--torch", "usual")[0] == 0
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple"}

    code, said = setup.run("--text", "--wheels", str(wheels), **offline)

    assert code == 0, said
    next(wheels.glob("peft-*")).unlink()
    code, said = setup.run("--repair", "--text", "--wheels", str(wheels), **offline)
    assert code == 1
    assert f"{wheels} has no wheel of peft for Python" in said
    assert setup.run("--start") == (0, "program 1.0\n")


@pytest.mark.slow
def test_an_update_that_fails_leaves_what_was_there_and_one_that_works_takes_its_place(
    setup: Setup, index: Index
) -> None:
    assert setup.run("--text", "--torch", "usual")[0] == 0
    old = Places(setup.program).current()
    package_of(setup.package, "2.0")

    assert setup.run("--start") == (
        0,
        "A new version of QLoRA Studio is installed and not set up yet. Run: qlora-studio-setup\nprogram 1.0\n",
    )
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    code, said = setup.run("--text", "--torch", "usual", **offline)

    assert code == 1
    assert "The package index was not reached" in said
    assert Places(setup.program).current() == old
    index.asked.clear()
    assert setup.run("--text", "--torch", "usual")[0] == 0
    assert setup.run("--start") == (0, "program 2.0\n")
    fetched_again = [name for name in index.asked if index.asked.count(name) > 1]  # once to choose, by an old pip
    assert fetched_again == []
    assert old is not None and not old.folder.exists()


@pytest.mark.slow
def test_a_repair_leaves_the_environment_of_what_is_at_work(setup: Setup, index: Index) -> None:
    assert setup.run("--text", "--torch", "usual")[0] == 0
    old = Places(setup.program).current()
    assert old is not None
    with subprocess.Popen([old.python, "-c", "input()"], stdin=subprocess.PIPE) as at_work:
        assert setup.run("--repair", "--text", "--torch", "usual")[0] == 0
        assert old.folder.is_dir() and Places(setup.program).current() != old
        code, said = setup.run("--remove")
        assert code == 1 and f"process {at_work.pid}" in said
        at_work.communicate(b"\n")
    assert setup.run("--remove")[0] == 0
