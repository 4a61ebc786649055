import getpass
import platform
from importlib.metadata import version
from pathlib import Path

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.events import EnvironmentTold, Failed, parse_event
from qlora_studio.engine.model.environment import checkout_commit, environment
from qlora_studio.jobs.worker_process import start_worker
from qlora_studio.storage.runs.run_folder import create_run_folder

COMMIT, OTHER = "a" * 40, "b" * 40


def checkout(root: Path, head: str) -> Path:
    (root / ".git" / "refs" / "heads").mkdir(parents=True)
    (root / ".git" / "HEAD").write_text(head)
    return root


def test_versions_are_those_that_are_installed() -> None:
    found = environment()
    assert found.packages["torch"] == version("torch")
    assert found.python == platform.python_version()
    assert parse_event(found.to_line().encode()) == found


def test_nothing_names_the_computer_or_the_user() -> None:
    told = environment().to_line()
    assert platform.node() not in told and str(Path.home()) not in told
    assert f'"{getpass.getuser()}"' not in told


def test_a_branch_leads_to_its_commit(tmp_path: Path) -> None:
    root = checkout(tmp_path, "ref: refs/heads/main\n")
    (root / ".git" / "refs" / "heads" / "main").write_text(f"{COMMIT}\n")
    assert checkout_commit(root) == COMMIT


def test_a_packed_branch_leads_to_its_commit(tmp_path: Path) -> None:
    root = checkout(tmp_path, "ref: refs/heads/main\n")
    packed = f"# pack-refs with: peeled\n{OTHER} refs/heads/other\n{COMMIT} refs/heads/main\n^{OTHER}\n"
    (root / ".git" / "packed-refs").write_text(packed)
    assert checkout_commit(root) == COMMIT


def test_a_checkout_without_a_branch_has_its_commit(tmp_path: Path) -> None:
    assert checkout_commit(checkout(tmp_path, f"{COMMIT}\n")) == COMMIT


def test_a_worktree_leads_to_its_commit(tmp_path: Path) -> None:
    root = checkout(tmp_path / "main", "ref: refs/heads/main\n")
    (root / ".git" / "refs" / "heads" / "side").write_text(COMMIT)
    own = root / ".git" / "worktrees" / "side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/side\n")
    (own / "commondir").write_text("../..\n")
    (tmp_path / "side").mkdir()
    (tmp_path / "side" / ".git").write_text(f"gitdir: {own}\n")
    assert checkout_commit(tmp_path / "side") == COMMIT


def test_where_it_is_installed_there_is_no_commit(tmp_path: Path) -> None:
    assert checkout_commit(tmp_path) == ""


def test_a_run_keeps_its_environment_even_where_it_cannot_begin(studio_home: Path, tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "runs", RunConfig(name="no model"))
    start_worker(folder).wait(60)
    state = folder.state()
    assert isinstance(state.failure, Failed)
    assert isinstance(state.environment, EnvironmentTold)
    assert state.environment.packages["torch"] == version("torch")
