"""How a place is reached: by the user's own ssh, whatever shell answers there, and what ssh says is put into words."""

import os
import shlex
import threading
from pathlib import Path

import pytest

from qlora_studio.core.elsewhere import shell
from qlora_studio.core.elsewhere.place import Place
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.jobs.elsewhere.connection import Connection, NotReached, give_up_all
from tests.elsewhere.places import until

_PLACE = Place(name="cluster", host="login.example")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs that are found first."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def _put_ssh(programs: Path, lines: str) -> None:
    (programs / "ssh").write_text(f"#!/bin/bash\n{lines}\n")
    (programs / "ssh").chmod(0o755)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("me@login.example: Permission denied (publickey,password).", "lets nobody in without a password"),
        ("Host key verification failed.", "The key of cluster is not known here"),
        (
            "Host key for login.example has changed and you asked for strict checking.\nHost key verification failed.",
            "cluster has another key than before: somebody else may answer",
        ),
        ("ssh: Could not resolve hostname login.example: Name or service not known", "No computer is called login"),
        ("ssh: connect to host login.example port 22: Connection refused", "cluster was not reached"),
        ("kex_exchange_identification: Connection closed by remote host", "cluster was not reached"),
    ],
)
def test_what_ssh_says_is_put_into_words_and_kept(programs: Path, words: str, message: str) -> None:
    _put_ssh(programs, f"echo {shlex.quote(words)} >&2; exit 255")

    with pytest.raises(NotReached, match=message) as raised:
        Connection(_PLACE).ask(shell.answering(":"))
    assert raised.value.kind is FailureKind.NOT_REACHED
    assert raised.value.advice
    assert words in raised.value.detail


def test_a_full_disk_there_is_called_that(tmp_path: Path) -> None:
    script = shell.answering("echo 'cat: write error: No space left on device' >&2; exit 1")

    with pytest.raises(StudioError, match="The disk of here is full") as raised:
        Connection(Place(name="here", folder=str(tmp_path))).ask(script)
    assert raised.value.kind is FailureKind.DISK_FULL


def test_a_script_arrives_as_it_is_through_the_login_shell_behind_what_a_login_prints(programs: Path) -> None:
    _put_ssh(programs, 'echo "Welcome to the cluster"; printf "%s\\n" "$@" > "$0.said"; exec sh -c "${@: -1}"')
    script = shell.answering('part text "it\'s $((1 + 1)) \\\\ `echo done`! "\npart given "$(cat)"')
    found = Connection(_PLACE).ask(script, [b"what ", b"is sent"], login=True)

    assert [part.text for part in found] == ["it's 2 \\ done! ", "what is sent"]
    said = (programs / "ssh.said").read_text().splitlines()
    assert said[said.index("--") + 1] == "login.example"
    assert {"BatchMode=yes", "ClearAllForwardings=yes", "ControlMaster=no"} <= {*said}


def test_a_place_that_hangs_is_not_waited_for(programs: Path) -> None:
    _put_ssh(programs, "exec sleep 60")

    with pytest.raises(NotReached, match="cluster hangs: nothing went there or came from there for 1 seconds"):
        Connection(_PLACE).ask(shell.answering(":"), idle_seconds=1)


def test_what_is_asked_is_given_up_at_once_when_that_is_wanted_and_when_the_process_is_to_end(programs: Path) -> None:
    _put_ssh(programs, 'touch "$0.asked"; exec sleep 60')
    stop = threading.Event()
    for give_up in (stop.set, give_up_all):
        (programs / "ssh.asked").unlink(missing_ok=True)
        refused: list[StudioError] = []
        asking = threading.Thread(target=_ask, args=(Connection(_PLACE, stop), refused))
        asking.start()
        until((programs / "ssh.asked").exists)
        give_up()
        asking.join(20)
        assert [error.kind for error in refused] == [FailureKind.INTERRUPTED]
        stop = threading.Event()


def _ask(connection: Connection, refused: list[StudioError]) -> None:
    try:
        connection.ask(shell.answering(":"), iter([b"x" * (1 << 20)]))
    except StudioError as error:
        refused.append(error)


def test_with_the_network_switched_off_no_host_is_asked_but_this_computer_is(
    programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _put_ssh(programs, 'touch "$0.asked"; exit 255')
    monkeypatch.setenv("QLORA_STUDIO_OFFLINE", "1")

    with pytest.raises(StudioError, match="the network is switched off") as raised:
        Connection(_PLACE).ask(shell.answering(":"))
    assert raised.value.kind is FailureKind.OFFLINE
    assert not (programs / "ssh.asked").exists()
    assert Connection(Place(name="here")).ask(shell.answering('part text "hello"'))[0].text == "hello"


def test_without_ssh_its_name_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(StudioError, match="ssh cannot be started") as raised:
        Connection(_PLACE).ask(shell.answering(":"))
    assert raised.value.kind is FailureKind.TOOL_MISSING
