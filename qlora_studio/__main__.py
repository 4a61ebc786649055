"""`qlora-studio` and `python -m qlora_studio`: what a process is to be is told apart here, and nowhere else.

So that the worker loads neither Qt nor the command line, the command line no Qt, and the supervisor next to nothing.
"""

import os
import signal
import sys

TYPE_CHECKING = False  # typing's own costs milliseconds, in which Ctrl-C still is Python's, and a traceback

if TYPE_CHECKING:
    from collections.abc import Callable

    from qlora_studio.cli.interruption import Interruption


def main() -> int:
    """Run a worker or what looks after one, or the command line, which opens the window where no command is given."""
    if sys.argv[1:2] == ["worker"] and len(sys.argv) == 3:
        _speak()
        from qlora_studio.engine.worker import work

        return work(sys.argv[2])
    if sys.argv[1:] == ["rank"]:
        _speak()
        from qlora_studio.engine.rank_worker import work_as_rank

        return work_as_rank()
    if sys.argv[1:2] == ["supervise"] and len(sys.argv) > 3:
        from qlora_studio.jobs.supervisor import supervise

        return supervise(sys.argv[2:])
    if sys.argv[1:2] == ["idle-worker"] and len(sys.argv) == 2:
        _speak()
        from qlora_studio.engine.idle_worker import work_when_asked

        return work_when_asked()
    if sys.argv[1:2] == ["supervise-idle"] and len(sys.argv) > 2:
        from qlora_studio.jobs.supervisor import supervise_idle

        return supervise_idle(sys.argv[2:])
    if sys.argv[1:2] == ["recover"] and len(sys.argv) == 5:
        from qlora_studio.jobs.recovery import recover

        return recover(sys.argv[2], *map(int, sys.argv[3:]))
    if sys.argv[1:2] == ["mirror"] and len(sys.argv) == 3:
        _speak()
        from qlora_studio.jobs.elsewhere.mirror import mirror

        return mirror(sys.argv[2])
    return _guarded()


def _speak() -> None:
    """Speak the language of the window that started this worker; what the command line starts speaks English."""
    if "QLORA_STUDIO_LANGUAGE" in os.environ:
        from qlora_studio.storage.languages import speak_chosen

        speak_chosen()


def _guarded() -> int:
    """Run the command line with an answer to signals from the first moment: within an import they are a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from qlora_studio.cli.interruption import Interruption

    interruption = Interruption(sys.argv[1:])
    interruption.guard()
    try:
        code = _command_line(interruption)
    except ImportError as error:
        code = _cannot_start(error)
    interruption.be_over(code)
    return code


def _cannot_start(error: ImportError) -> int:
    """Say which library is not there or broken, and what mends that: a doctor that cannot start says nothing."""
    from qlora_studio.core.errors import ExitCode
    from qlora_studio.core.words import say
    from qlora_studio.storage.installation import repair_advice

    damage = say("A library of QLoRA Studio is missing or damaged: {why}.", why=error)
    print(damage, repair_advice(), sep="\n", file=sys.stderr)
    return ExitCode.ERROR


def _command_line(interruption: "Interruption") -> int:
    from pathlib import Path

    from qlora_studio.cli.console import open_streams

    open_streams()
    if sys.argv[1:] in ([], ["demo"]):  # the window: what is said in constants is said as modules are imported
        from qlora_studio.storage.languages import speak_chosen

        speak_chosen()

    def open_window(demo: bool) -> int:
        interruption.unguard()
        return _open_window(demo)

    def test_window(as_json: bool) -> int:
        interruption.unguard()
        return _test_window(as_json)

    if not sys.argv[1:]:
        return _open_at_once(open_window)
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_absolute():  # what a file manager opens with it
        return _open_at_once(lambda demo: _open_window(demo, sys.argv[1]))
    from qlora_studio.cli.main import run

    return run(sys.argv[1:], open_window=open_window, self_test=test_window, interruption=interruption)


def _open_at_once(open_window: "Callable[[bool], int]") -> int:
    """Open the window without loading the commands: it shows a quarter of a second sooner."""
    from qlora_studio.cli.console import Console, require_display
    from qlora_studio.core.errors import StudioError

    try:
        require_display()
        return open_window(False)
    except StudioError as error:
        return Console().fail(error)


def _open_window(demo: bool, opened: str = "") -> int:
    from qlora_studio.ui.window.qt_check import require_qt

    require_qt()
    from qlora_studio.ui import app

    return app.main(demo=demo, opened=opened)


def _test_window(as_json: bool) -> int:
    from qlora_studio.ui.showcase import self_test

    return self_test.main(as_json=as_json)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder where the user stands: what lies there is not to be taken for a library
    sys.exit(main())
