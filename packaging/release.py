"""Makes a release: checks, upgrade test, version, changelog, commit, tag, and what is handed out.

    python packaging/release.py 0.2.0             all of it, in this checkout
    python packaging/release.py 0.2.0 --dry-run   all checks, and what would be changed; nothing is

Nothing is published: pushing the tag and the files of `dist` is left to whoever releases. What fails before the commit
leaves the checkout as it was.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

_ROOT = Path.cwd()
_VERSION_FILE, _CHANGES = Path("qlora_studio/__init__.py"), Path("CHANGELOG.md")
_VERSION = re.compile(r'__version__ = "([^"]+)"')
_UNRELEASED = "## Unreleased\n"
_IS_VERSION = re.compile(r"\d+\.\d+\.\d+")

_MAKE_RUN = """
from qlora_studio.storage.presets import load_preset
from qlora_studio.storage.runs.run_folder import create_run_folder
from qlora_studio.storage.settings import load_settings
print(create_run_folder(load_settings().runs_path, load_preset("starter")).path)
"""
# What the version before left is listed by this one: read, and none of it lost.
_LIST_RUNS = "import sys; from qlora_studio.__main__ import main; sys.argv = ['qlora-studio', 'runs', '--json']; main()"


def main() -> int:
    """Release, or say what a release would be; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", nargs="?", default="")
    parser.add_argument("--dry-run", action="store_true", help="check everything, change nothing")
    arguments = parser.parse_args()
    problems = [words for check in _CHECKS if (words := check(arguments.version))]
    if problems:
        print("Not released:", *problems, sep="\n- ", file=sys.stderr)
        return 1
    new = new_texts(arguments.version, datetime.datetime.now(datetime.UTC).date().isoformat())
    for path in new:
        print(f"{'Would change' if arguments.dry_run else 'Changes'} {path}")
    print(f"Commit and tag: v{arguments.version}. Then: make dist dist-check")
    return 0 if arguments.dry_run else _release(arguments.version, new)


def new_texts(version: str, day: str) -> dict[Path, str]:
    """Return the files that a release changes, with their new text."""
    text = (_ROOT / _CHANGES).read_text("utf-8")
    cut = text.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version} – {day}\n", 1)
    source = (_ROOT / _VERSION_FILE).read_text("utf-8")
    return {_CHANGES: cut, _VERSION_FILE: _VERSION.sub(f'__version__ = "{version}"', source, count=1)}


def _release(version: str, new: dict[Path, str]) -> int:
    for path, text in new.items():
        (_ROOT / path).write_text(text, encoding="utf-8")
    _git("add", *map(str, new))
    _git("commit", "--quiet", "--message", f"Version {version}")
    _git("tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    return subprocess.run(["make", "dist", "dist-check"], cwd=_ROOT, check=False).returncode


def _version_is_next(version: str) -> str:
    current = _current()
    if not _IS_VERSION.fullmatch(version):
        return f"{version or 'No version'} is no version such as 1.2.3: make release VERSION=1.2.3"
    if f"v{version}" in _git("tag").split():
        return f"v{version} is tagged already."
    released = bool(_git("tag", "--list", f"v{current}"))
    if _numbers(version) < _numbers(current) or (released and version == current):
        return f"{version} does not come after {current}."
    return ""


def _tree_is_clean(_version: str) -> str:
    changed = _git("status", "--porcelain").splitlines()
    return f"There are changes that are not committed: {', '.join(changed[:3])}" if changed else ""


def _changes_are_told(_version: str) -> str:
    text = (_ROOT / _CHANGES).read_text("utf-8")
    told = text.partition(_UNRELEASED)[2].partition("\n## ")[0].strip()
    return "" if told else f"{_CHANGES} tells nothing under Unreleased."


def _licences_are_listed(_version: str) -> str:
    if not (_ROOT / "tests" / "third_party_page.py").exists():
        return "tests/third_party_page.py is not here: release from a checkout."
    code = "from tests.third_party_page import PAGE, page; import sys; sys.exit(page() != PAGE.read_text('utf-8'))"
    return "" if _python(_ROOT, code).returncode == 0 else "THIRD_PARTY.md is not of today: make third-party"


def _upgrade_goes_well(_version: str) -> str:
    """Have the version that was released last make a home, and this one read it; without one, there is none to try."""
    tags = _git("tag", "--list", "v*", "--sort=-creatordate").split()
    if not tags:
        print("There is no released version yet: the upgrade is tried by tests/compatibility alone.")
        return ""
    with tempfile.TemporaryDirectory(prefix="qlora-studio-upgrade-") as folder:
        before, home = Path(folder) / "before", Path(folder) / "home"
        _git("worktree", "add", "--quiet", "--detach", str(before), tags[0])
        try:
            made = _python(before, _MAKE_RUN, home)
            if made.returncode:
                return f"{tags[0]} could not make a run to upgrade from: {made.stderr[-500:]}"
            listed = _python(_ROOT, _LIST_RUNS, home)
        finally:
            _git("worktree", "remove", "--force", str(before))
    try:
        found = [run["run_dir"] for run in json.loads(listed.stdout)["runs"]]
    except (ValueError, KeyError):
        found = []
    if found == [made.stdout.strip()]:
        return ""
    return f"A run of {tags[0]} is not listed after the upgrade: {listed.stderr[-500:]}"


_CHECKS: tuple[Callable[[str], str], ...] = (
    _version_is_next,
    _tree_is_clean,
    _changes_are_told,
    _licences_are_listed,
    _upgrade_goes_well,
)


def _python(folder: Path, code: str, home: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a program with the package that lies in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(folder)} | ({"QLORA_STUDIO_HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def _current() -> str:
    found = _VERSION.search((_ROOT / _VERSION_FILE).read_text("utf-8"))
    return found[1] if found else "0"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=_ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
