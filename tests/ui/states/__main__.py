"""Pictures of the real window in every page and state that matters, light and dark, at several sizes, with sheets.

    python -m tests.ui.states FOLDER [--only run,data] [--size 1280x720] [--theme dark] [--scale 2] [--per-sheet 6]

Whoever changes how something looks looks at these. What cannot be read in a picture (a number that is cut, a button
that is squeezed) is also found without eyes, by `layout_faults`, and printed.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

SIZES = ("1024x640", "1280x720", "1920x1080")
THEMES = ("light", "dark")


def main() -> int:
    """Take the pictures; return how many faults were found."""
    wanted = _arguments()
    os.environ["QT_SCALE_FACTOR"] = f"{wanted.scale:g}"
    os.environ["QT_QPA_PLATFORM"] = f"offscreen:configfile={Path(__file__).with_name('screen.json')}"
    os.environ["DBUS_SESSION_BUS_ADDRESS"] = "unix:path=/dev/null"
    from qlora_studio.ui.app import new_application
    from tests.ui.states.contact_sheet import write_sheets
    from tests.ui.states.first_scenes import first_scenes
    from tests.ui.states.later_scenes import later_scenes
    from tests.ui.states.stage import Looks, Stage

    wanted.place.mkdir(parents=True, exist_ok=True)
    app = new_application()
    looks = Looks(wanted.place, wanted.only, tuple(wanted.theme), tuple(wanted.size))
    for scenes in (first_scenes, later_scenes):
        with tempfile.TemporaryDirectory() as home, Stage(app, Path(home), looks) as stage:
            scenes(stage)
    write_sheets(wanted.place, looks.taken, wanted.per_sheet)
    print("\n".join(looks.faults))
    print(f"{sum(map(len, looks.taken.values()))} pictures, {len(looks.faults)} faults")
    return min(1, len(looks.faults))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("place", type=Path)
    parser.add_argument("--only", default="", help="words, with commas, that the names of the pictures have in them")
    parser.add_argument("--size", type=lambda text: text.split(","), default=SIZES)
    parser.add_argument("--theme", type=lambda text: text.split(","), default=THEMES)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--per-sheet", type=int, default=6)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
