"""What a user writes of a place is taken where it can stand in a command, and each problem is named with its field."""

import re
import subprocess
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere.job_script import job_script, seconds_of
from qlora_studio.core.elsewhere.place import Place, place_from, place_settings
from qlora_studio.core.errors import InvalidRunConfig

_RUN, _HASH = "/home/me/runs/20260101-first", "ab" * 32


def _options(script: str) -> dict[str, str]:
    """Return the options of a script, by their names."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script, re.MULTILINE))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", "-oProxyCommand=touch x"),
        ("host", "a; touch x"),
        ("host", "user@host:2222"),  # which ssh takes for a name
        ("host", "::1 -p 22"),
        ("host", "ssh://host:2222/-oProxyCommand"),
        ("folder", "runs/$(touch x)"),
        ("folder", "runs dir"),
        ("partition", "a b"),
        ("time", "soon"),
        ("cards", "many"),
        ("memory", "64 gigabytes"),
        ("options", "rm -rf /"),
        ("program", "one\ntwo"),
        ("grace_seconds", "1"),
        ("name", ""),
        ("interface", "eth0; touch x"),
        ("nodes", 65),
    ],
)
def test_what_cannot_stand_in_a_command_is_refused_by_its_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRunConfig) as raised:
        place_from({"name": "cluster", field: value})

    assert [problem.field for problem in raised.value.problems] == [field]


@pytest.mark.parametrize(
    "host",
    [
        "cluster",
        "user@login.example.org",
        "user@domain@login",
        r"DOMAIN\user@login",
        "::1",
        "me@fe80::1%eth0",
        "192.0.2.7",
        "ssh://me@login.example.org:2222",
        "ssh://[2001:db8::7]:22",
    ],
)
def test_a_host_is_what_ssh_takes(host: str) -> None:
    assert place_from({"name": "cluster", "host": f" {host} "}).host == host


def test_a_place_can_be_written_down_with_its_name_alone_and_every_field_has_its_words() -> None:
    place = place_from({"name": "cluster"})

    assert place.is_here
    assert place.card_count == 1
    assert all(info.title and info.help for info in place_settings())


def test_the_script_asks_for_what_the_place_says() -> None:
    place = Place(
        name="c",
        partition="gpu",
        account="lab",
        time="12:00:00",
        cards="a100:2",
        cpus=8,
        memory="64G",
        options="--qos=x",
    )
    options = _options(job_script(place, _RUN, _HASH))

    assert options["gres"] == "gpu:a100:2"
    assert (options["partition"], options["account"], options["time"]) == ("gpu", "lab", "12:00:00")
    assert (options["cpus-per-task"], options["mem"], options["qos"]) == ("8", "64G", "x")
    assert options["chdir"] == _RUN
    assert options["signal"] == "B:TERM@180"
    assert "requeue" in options


def test_a_place_without_cards_asks_for_none_and_what_is_left_open_is_the_schedulers_choice() -> None:
    assert _options(job_script(Place(name="c", cards="0", time=""), _RUN, _HASH)).keys() == {
        *("job-name", "chdir", "output", "open-mode", "nodes", "ntasks", "requeue", "signal")
    }


def test_a_short_job_is_asked_to_pause_when_half_of_its_time_is_over() -> None:
    assert _options(job_script(Place(name="c", time="2"), _RUN, _HASH))["signal"] == "B:TERM@60"


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("30", 1800), ("30:10", 1810), ("2:00:00", 7200), ("1-0", 86400), ("1-2:30", 95400), ("UNLIMITED", None)],
)
def test_a_limit_is_read_as_slurm_reads_it(limit: str, seconds: int | None) -> None:
    assert seconds_of(limit) == seconds


def test_a_shell_runs_the_setup_first_and_then_becomes_the_program() -> None:
    place = Place(name="c", setup="export GREETING='good day'\n# a comment", program='printf \'%s|\' "$GREETING" "$$"')
    script = job_script(place, _RUN, _HASH, more=("--lower-rate",)) + "echo not reached\n"
    told = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout

    assert told.split("|")[0] == "good day"
    assert told.split("|")[2:] == ["elsewhere", "work", _RUN, "--sha256", _HASH, "--lower-rate", ""]


def test_several_nodes_must_be_told_by_which_interface_they_speak() -> None:
    with pytest.raises(InvalidRunConfig, match="need the network interface") as raised:
        place_from({"name": "cluster", "nodes": 2})

    assert [problem.field for problem in raised.value.problems] == ["interface"]
    assert place_from({"name": "cluster", "nodes": 2, "interface": "ib0"}).nodes == 2


@pytest.mark.parametrize("trusts", [True, False])
def test_on_several_nodes_the_program_is_started_on_each_as_another_machine(tmp_path: Path, trusts: bool) -> None:
    """An `srun` that starts what it is told to, once for each of two nodes, after its own options."""
    (tmp_path / "srun").write_text(
        'while [ "${1#--}" != "$1" ]; do shift; done\nfor SLURM_PROCID in 0 1; do export SLURM_PROCID; "$@"; done\n'
    )
    (tmp_path / "srun").chmod(0o755)
    setup, program = "export B='two words'", "printf '%s|' \"$B\""
    place = Place(name="c", nodes=2, interface="ib0", cpus=4, setup=setup, program=program)
    script = job_script(place, _RUN, _HASH, trusts=trusts)
    told = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    options = _options(script)
    assert (options["nodes"], options["ntasks"], options["cpus-per-task"]) == ("2", "2", "4")
    work = ["two words", "elsewhere", "work", _RUN, "--sha256", _HASH, "--machines", "2"]
    more = ["--interface", "ib0", "--meet-by", "elsewhere/meeting-7-0", *(["--trust-network"] if trusts else [])]
    assert told.split("|")[:-1] == [*work, "--machine", "0", *more, *work, "--machine", "1", *more]
