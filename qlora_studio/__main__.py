"""`qlora-studio` and `python -m qlora_studio`: the worker's entry is kept apart, so that it loads neither Qt nor the command line."""

import sys


def main() -> int:
    """Run the worker, or the command line, which opens the window where no command is given."""
    if sys.argv[1:2] == ["worker"] and len(sys.argv) == 3:
        from qlora_studio.engine.worker import work

        return work(sys.argv[2])
    from qlora_studio.cli.main import run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
