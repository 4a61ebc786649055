"""A release is one command: tried in a copy of the repository, with a version before it to upgrade from."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_TOOL = _ROOT / "packaging" / "release.py"
_NEEDED = (
    "qlora_studio",
    "resources",
    "packaging",
    "docs/COMMANDS.md",
    "CHANGELOG.md",
    "THIRD_PARTY.md",
    "pyproject.toml",
)


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=Releaser", "-c", "user.email=releaser@example.org")
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository of its own with what a release looks at, and a first version that was released."""
    folder = tmp_path / "checkout"
    for name in (*_NEEDED, "tests/third_party_page.py"):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        source = _ROOT / name
        skipped = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source, place, ignore=skipped) if source.is_dir() else shutil.copy(source, place)
    (folder / ".gitignore").write_text("__pycache__/\n")
    git(folder, "init", "--quiet")
    git(folder, "add", "-A")
    git(folder, "commit", "--quiet", "-m", "All of it")
    git(folder, "tag", "v0.1.0")
    return folder


def release(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, str(_TOOL), *words], cwd=folder, capture_output=True, text=True, check=False)


def test_a_dry_run_tries_everything_and_changes_nothing(checkout: Path) -> None:
    done = release(checkout, "0.2.0", "--dry-run")

    assert done.returncode == 0, done.stderr
    assert "Would change CHANGELOG.md" in done.stdout and "v0.2.0" in done.stdout
    assert git(checkout, "status", "--porcelain") == "" and git(checkout, "tag").split() == ["v0.1.0"]


def test_what_is_in_the_way_is_told_all_at_once_and_nothing_is_changed(checkout: Path) -> None:
    changes = checkout / "CHANGELOG.md"
    changes.write_text("# Changes\n\n## Unreleased\n\n## 0.1.0\n\n- All.\n")

    done = release(checkout, "0.1.0")

    assert done.returncode == 1
    for words in ("tagged already", "not committed: M CHANGELOG.md", "tells nothing under Unreleased"):
        assert words in done.stderr.replace("  ", " "), done.stderr
    assert git(checkout, "tag").split() == ["v0.1.0"]


def test_a_release_cuts_the_changelog_sets_the_version_and_tags_it(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Releaser")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "releaser@example.org")
    (checkout / "Makefile").write_text("dist dist-check:\n\t@echo made $@\n")
    git(checkout, "add", "-A")
    git(checkout, "commit", "--quiet", "-m", "Another way to make it")

    done = release(checkout, "0.2.0")

    assert done.returncode == 0, done.stderr
    assert "made dist" in done.stdout and "made dist-check" in done.stdout
    assert git(checkout, "tag").split() == ["v0.1.0", "v0.2.0"] and git(checkout, "status", "--porcelain") == ""
    assert '__version__ = "0.2.0"' in (checkout / "qlora_studio" / "__init__.py").read_text()
    changes = (checkout / "CHANGELOG.md").read_text()
    assert changes.startswith("# Changes\n\n## Unreleased\n\n## 0.2.0 – 20")


def test_a_run_of_the_version_before_that_is_lost_is_in_the_way(checkout: Path) -> None:
    listing = checkout / "qlora_studio" / "cli" / "watch_command.py"
    listing.write_text(
        listing.read_text().replace("def list_runs(", "def list_runs(*_: object) -> int:\n    return 0\n\n\ndef _gone(")
    )
    git(checkout, "commit", "--quiet", "-am", "Runs are lost")

    done = release(checkout, "0.2.0", "--dry-run")

    assert done.returncode == 1
    assert "A run of v0.1.0 is not listed after the upgrade" in done.stderr
