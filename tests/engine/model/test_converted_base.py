"""A GGUF file as a base is converted once, kept, and converted again where the conversion is not whole any more."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qlora_studio.engine.context import QUIET
from qlora_studio.engine.export.export import export_run
from qlora_studio.engine.model.base import base_folder
from tests.engine.finished_run import make_run

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("gguf")
    (export,) = export_run(make_run(place), formats=["gguf:f16"], channel=QUIET)
    return next(Path(export.path).glob("*.gguf"))


def _forget_the_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _change_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(path.read_text("utf-8").replace("model.safetensors", "weights.safetensors"), encoding="utf-8")


def _cut_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"half")


@pytest.mark.parametrize("damage", [_forget_the_manifest, _change_the_manifest, _cut_the_weights])
def test_a_conversion_is_kept_and_made_again_only_where_it_is_not_whole(
    gguf: Path, studio_home: Path, damage: Callable[[Path], None]
) -> None:
    folder = base_folder(str(gguf))
    weights = (folder / "model.safetensors").read_bytes()
    made = (folder / "manifest.json").stat().st_mtime_ns
    assert (base_folder(str(gguf)), (folder / "manifest.json").stat().st_mtime_ns) == (folder, made)
    kept = sorted(folder.parent.iterdir())  # other tests keep theirs there, too
    damage(folder)
    assert base_folder(str(gguf)) == folder
    assert (folder / "model.safetensors").read_bytes() == weights
    assert sorted(folder.parent.iterdir()) == kept


def test_a_conversion_without_version_and_checksum_is_taken_as_it_is(gguf: Path, studio_home: Path) -> None:
    manifest = base_folder(str(gguf)) / "manifest.json"
    facts = json.loads(manifest.read_bytes())
    assert set(facts) == {"version", "gguf", "sha256", "files", "checksum"}
    old = json.dumps({key: facts[key] for key in ("gguf", "sha256", "files")})
    manifest.write_text(old)
    base_folder(str(gguf))
    assert manifest.read_text() == old
    shutil.rmtree(manifest.parent)
