"""`qlora-studio` and `python -m qlora_studio`: what a process is to be is told apart here, and nowhere else.

So that the worker loads neither Qt nor the command line, the command line no Qt, and the supervisor next to nothing.
"""

import sys


def main() -> int:
    """Run a worker or what looks after one, or the command line, which opens the window where no command is given."""
    if sys.argv[1:2] == ["worker"] and len(sys.argv) == 3:
        from qlora_studio.engine.worker import work

        return work(sys.argv[2])
    if sys.argv[1:2] == ["supervise"] and len(sys.argv) > 3:
        from qlora_studio.jobs.supervisor import supervise

        return supervise(sys.argv[2:])
    if sys.argv[1:2] == ["recover"] and len(sys.argv) == 5:
        from qlora_studio.jobs.recovery import recover

        return recover(sys.argv[2], *map(int, sys.argv[3:]))
    if not sys.argv[1:]:
        return _open_at_once()
    from qlora_studio.cli.main import run

    return run(sys.argv[1:], open_window=_open_window, self_test=_test_window)


def _open_at_once() -> int:
    """Open the window without loading the commands: it shows a quarter of a second sooner."""
    from qlora_studio.cli.display import require_display
    from qlora_studio.core.errors import StudioError

    try:
        require_display()
        return _open_window(False)
    except StudioError as error:
        from qlora_studio.cli.console import Console

        return Console(json=False, details=False, quiet=False).fail(error)


def _open_window(demo: bool) -> int:
    from qlora_studio.ui.window.qt_check import require_qt

    require_qt()
    from qlora_studio.ui import app

    return app.main(demo=demo)


def _test_window(as_json: bool) -> int:
    from qlora_studio.ui.showcase import self_test

    return self_test.main(as_json=as_json)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]  # the folder where the user stands: what lies there is not to be taken for a library
    sys.exit(main())
