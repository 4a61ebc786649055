"""Lets the monkey at the window: `python -m tests.ui.monkey [--seeds 20] [--first 0] [--actions 10000] [--limit 100]`.

Each seed plays in a process of its own. What fails is played again with fewer actions until none can be left out, and
printed; `--play FILE` plays such actions again. Processor time and the longest gaps are told for each seed.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from tests.ui.monkey.actions import Action, drawn
from tests.ui.monkey.shrinking import Rules, played, shrunk


def main() -> int:
    """Play the seeds; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--actions", type=int, default=10_000)
    parser.add_argument("--limit", type=float, default=100, help="milliseconds of work in one turn that are a stall")
    parser.add_argument("--tries", type=int, default=40, help="to make a failing sequence shorter; 0 prints none")
    parser.add_argument("--pass-over", default="", metavar="PATTERN", help="what is known, and does not end a game")
    parser.add_argument("--new", action="store_true", help="play as a new user; else every third seed does")
    parser.add_argument("--play", type=Path, help="play the actions of this file, one a line")
    arguments = parser.parse_args()
    rules = Rules(arguments.limit / 1000, arguments.pass_over, arguments.new)
    if arguments.play:
        lines = [line.split() for line in arguments.play.read_text("utf-8").splitlines() if line.strip()]
        result = played([Action(kind, *map(float, numbers)) for kind, *numbers in lines], rules)
        print(result.words())
        return int(bool(result.found))
    failed = 0
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        actions = drawn(seed, arguments.actions)
        rules = replace(rules, new=arguments.new or seed % 3 == 2)
        result = played(actions, rules)
        print(f"seed {seed}: {result.words()}", flush=True)
        if result.found:
            failed += 1
            if not arguments.tries:
                continue
            few = shrunk(actions[: result.at + 1], result.found, rules, tries=arguments.tries)
            print(f"the same with {len(few)} of {result.at + 1} actions:", *few, sep="\n", flush=True)
    print(json.dumps({"seeds": arguments.seeds, "failed": failed}))
    return failed


if __name__ == "__main__":
    sys.exit(main())
