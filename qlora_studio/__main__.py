"""`qlora-studio` and `python -m qlora_studio`: worker, command line and window are told apart here, and nowhere else.

So that the worker loads neither Qt nor the command line, and the command line loads no Qt.
"""

import sys


def main() -> int:
    """Run the worker, or the command line, which opens the window where no command is given."""
    if sys.argv[1:2] == ["worker"] and len(sys.argv) == 3:
        from qlora_studio.engine.worker import work

        return work(sys.argv[2])
    from qlora_studio.cli.main import run

    return run(sys.argv[1:], open_window=_open_window, self_test=_test_window)


def _open_window(demo: bool) -> int:
    from qlora_studio.ui import app

    return app.main(demo=demo)


def _test_window(as_json: bool) -> int:
    from qlora_studio.ui import self_test

    return self_test.main(as_json=as_json)


if __name__ == "__main__":
    sys.exit(main())
