"""How long the window does not answer: the gaps between two turns of its event loop while it is used.

    python -m tests.benchmarks.event_loop [--rows 1000000] [--row-tokens 30000] [--runs 1000] [--points 100000]
                                          [--seconds 10] [--only WORD …] [--keep]

The real window, offscreen where there is no screen, with a real worker behind the Data page. Prints for each phase, and
for all of them together, percentiles of the gaps as a quiet machine would have them (by the clock, less what the
window's thread waited for a processor that others had), and the worst one by the clock and by the thread's own work.

A timer of 2 ms has the loop come round where nothing else does. Most turns are its own, idle, and count like others: so
the percentiles of all turns together are the lower the longer a phase waits for a worker. The line after them is of the
turns alone that worked for a millisecond or more.

The longest gaps of 100 ms of work and more are told with the stacks that were seen in them. With --keep the figures go
to `tests/benchmarks/results/event_loop.json`; `--only` leaves out the phases of other words.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.reading import conversations, record

RESULT = Path(__file__).parent / "results" / "event_loop.json"
WORST, RARE = 100.0, 16.0  # milliseconds that no gap takes, and that 999 of 1000 do not
_TOLD = 12  # of the longest gaps
_MARKS = ("p50", "p95", "p99", "p99.9", "worst")


def main() -> int:
    """Use the window and print the gaps; return whether one was too long."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--row-tokens", type=int, default=30_000, help="of the longest row")
    parser.add_argument("--runs", type=int, default=1000, help="in the list")
    parser.add_argument("--points", type=int, default=100_000, help="of a run that is replayed")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a live run")
    parser.add_argument("--only", nargs="*", default=(), choices=("data", "runs", "theme"), help="what is used")
    parser.add_argument("--keep", action="store_true", help="write the figures to the results")
    arguments = parser.parse_args()
    if not os.environ.get("DISPLAY"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    with tempfile.TemporaryDirectory() as place:
        os.environ["QLORA_STUDIO_HOME"] = place
        figures, together, stalls = use_window(Path(place), arguments)
    show(figures, together, stalls)
    if arguments.keep:
        machine = {"cores": os.cpu_count(), "python": platform.python_version()}
        facts = {**machine, **vars(arguments), "together": together, "phases": figures}
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return int(any(facts["quiet"]["worst"] > WORST for facts in figures.values()))


def show(figures: dict[str, Any], together: dict[str, Any], stalls: list[str]) -> None:
    """Print a line a phase and those of all of them together, then what was too long."""
    print(f"{'phase':<28}{'turns':>7}{''.join(f'{mark:>7}' for mark in _MARKS)}{'clock':>8}{'work':>7}{'took':>7}")
    for name, facts in (figures | together).items():
        numbers = "".join(f"{facts['quiet'][mark]:>7.0f}" for mark in _MARKS)
        took = f"{facts['seconds']:>7.1f}" if "seconds" in facts else ""
        print(f"{name:<28}{facts['turns']:>7}{numbers}{facts['clock']['worst']:>8.0f}{facts['most_work']:>7.0f}{took}")
    for mark, limit in (("worst", WORST), ("p99.9", RARE)):
        over = [name for name, facts in (figures | together).items() if facts["quiet"][mark] > limit]
        print(f"{mark} over {limit:.0f} ms: {', '.join(over) or 'none'}")
    print("milliseconds on a quiet machine, the worst by the clock, the most work of one turn; `took` is in seconds")
    print(*stalls, sep="\n")


def use_window(place: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Go through everything that a person does; return the gaps of each phase and of all, and in words the too long."""
    from qlora_studio.ui.app import AppWindow, new_application
    from tests.benchmarks.window_use import Use
    from tests.ui.watchdog import Watchdog

    app = new_application()
    watchdog = Watchdog(ours=("event_loop", "window_use"))
    use = Use(app, watchdog)
    wanted = arguments.only or ("data", "runs", "theme")
    with use.phase("until the first paint"):
        window = AppWindow()
        painted, completed = use.heard(window.painted), use.heard(window.completed)
        window.show()
        use.wait(lambda: painted)
    with use.phase("after the first paint"):
        use.wait(lambda: completed)
        use.rest(1.0)
    for phase in ("each page, first time", "each page, again"):
        with use.phase(phase):
            for name in window.window.rail.names():
                window.window.show_page(name)
                use.rest(0.3)
    if "theme" in wanted:
        use.change_theme(window, "another theme")
    if "data" in wanted:
        use.look_at_data(window, write_rows(place / "rows.jsonl", arguments), arguments.row_tokens)
    if "runs" in wanted:
        use.watch_runs(window, place, arguments)
    if "theme" in wanted:
        use.change_theme(window, "another theme, all full")
    window.destroy()
    watchdog.end()
    figures = watchdog.figures()
    for name, seconds in use.seconds.items():
        figures[name]["seconds"] = round(seconds, 2)
    worst = sorted(watchdog.stalls, key=lambda stall: -stall.gap.work)[:_TOLD]
    return figures, watchdog.together(), [str(stall) for stall in worst]


def write_rows(path: Path, arguments: argparse.Namespace) -> Path:
    """Write short conversations, and one long one in their midst."""
    with path.open("w", encoding="utf-8") as file:
        for number, (question, answer) in enumerate(conversations(arguments.rows, 30)):
            if number == arguments.rows // 2:
                answer = "\n".join(f"line {line} of many, with \u200b and \u202e in it" for line in range(10**6))
                answer = answer[: 3 * arguments.row_tokens]
            file.write(json.dumps(record(question, answer)) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
