"""A base in 4 bits that is kept in the cache: bit for bit what its files give, and dropped where it is not."""

import hashlib
import json
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import load_file, save_file
from transformers import set_seed

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.engine.context import QuietReporter
from qlora_studio.engine.model import kept_base
from qlora_studio.engine.model.adapted import attach_adapters, cast_adapters, load_base
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.ranks.share import Share
from qlora_studio.storage.durable import read_manifest, write_manifest
from qlora_studio.storage.models.kept_bases import KeptManifest, kept_bases, kept_path
from qlora_studio.storage.runs.fingerprint import fingerprint_folder
from qlora_studio.storage.settings import Settings, save_settings
from tests.engine.families import WRAPPERS, make_base
from tests.engine.mixtures import make_mixture
from tests.engine.test_families import A_DOZEN
from tests.engine.tiny_families import save_tiny

_DEVICE = Device("cpu", torch.bfloat16, "adamw_torch", True)
_WEIGHTS = "model.safetensors"
_EMBEDDING = "model.embed_tokens.weight"


class Told(QuietReporter):
    """Remembers what it was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, kind: str, message: str) -> None:
        """Remember it."""
        self.warnings.append(message)


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, studio_home: Path) -> None:
    """Tiny bases are kept as large ones are, in this test's own cache."""
    monkeypatch.setattr(kept_base, "_LEAST", 0)
    if (studio_home / "cache" / "bases").is_symlink():
        (studio_home / "cache" / "bases").unlink()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama. Do not write into it."""
    return make_base(tmp_path_factory.mktemp("models") / "tiny-llama", "llama", dtype=torch.bfloat16)


@pytest.fixture
def base(whole: Path, tmp_path: Path) -> Path:
    """A tiny Llama of this test's own."""
    return copytree(whole, tmp_path / "tiny-llama")


@pytest.fixture
def kept(whole: Path, kept_once: Path) -> Path:
    """What is kept of the tiny Llama, in this test's own cache."""
    return copytree(kept_once, kept_path() / kept_once.name)


@pytest.fixture(scope="module")
def kept_once(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is kept of the tiny Llama. Do not write into it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept_base, "_LEAST", 0)
        patch.setenv("QLORA_STUDIO_HOME", str(tmp_path_factory.mktemp("home")))
        loaded(whole)
        return kept_bases()[0]


@pytest.fixture(scope="module")
def fresh(whole: Path) -> Any:
    """The tiny Llama as its files give it."""
    return loaded(whole)[0]


def loaded(folder: Path, config: RunConfig | None = None) -> tuple[Any, list[str]]:
    told = Told()
    return load_base(folder, config or RunConfig(), _DEVICE, reporter=told), told.warnings


def differences(one: Any, other: Any) -> list[str]:
    """Return the names of tensors and buffers that are not the same in two models, and what their configs differ in."""
    (mine, theirs) = ({**model.state_dict(), **dict(model.named_buffers())} for model in (one, other))
    names = mine.keys() | theirs.keys()
    found = [name for name in names if name not in mine or name not in theirs or not _same(mine[name], theirs[name])]
    settings, others = one.config.to_dict(), other.config.to_dict()
    places = [one.name_or_path, one.config.name_or_path] != [other.name_or_path, other.config.name_or_path]
    return found + [name for name in settings if settings[name] != others.get(name)] + ["place"] * places


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())


@contextmanager
def unseen(path: Path) -> Iterator[None]:
    """Leave a file's time as it was, so that what changes in it is not looked for."""
    times = path.stat()
    yield
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def change(folder: Path, *, where: Callable[[str], bool]) -> None:
    """Change weights in a base's file in place: same size, same time, same inode."""
    weights = load_file(folder / _WEIGHTS)
    changed = {name: tensor.flip(0).contiguous() if where(name) else tensor for name, tensor in weights.items()}
    spare = folder.parent / "changed.safetensors"
    save_file(changed, spare, metadata={"format": "pt"})
    with unseen(folder / _WEIGHTS), (folder / _WEIGHTS).open("r+b") as file:
        file.write(spare.read_bytes())


def losses(model: Any) -> list[float]:
    """Return the losses of three steps of training with fresh adapters."""
    set_seed(42)
    adapted = attach_adapters(model, RunConfig())
    cast_adapters(adapted, torch.float32)
    optimizer = torch.optim.AdamW([item for item in adapted.parameters() if item.requires_grad], lr=1e-2)
    tokens = torch.arange(5, 25)[None]
    found = []
    adapted.train()
    for _ in range(3):
        loss = adapted(tokens, labels=tokens).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        found.append(float(loss.detach()))
    return found


@pytest.mark.parametrize("name", ["whole", pytest.param("smollm_folder", marks=pytest.mark.slow)])
def test_training_on_what_is_kept_gives_the_same_losses_to_the_last_bit(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    (made, told), (kept, told_again) = loaded(folder), loaded(folder)
    assert len(kept_bases()) == 1 and not told and not told_again
    assert differences(made, kept) == []
    first, *others = losses(made)
    assert losses(kept) == [first, *others] and others[-1] < first


@pytest.mark.parametrize("kind,double", [("nf4", False), pytest.param("fp4", True, marks=pytest.mark.slow)])
def test_each_way_of_quantizing_is_kept_by_itself(kind: str, double: bool, base: Path) -> None:
    config = RunConfig().with_value("quantization.method", kind).with_value("quantization.double", double)
    loaded(base)
    (fresh, _), (kept, told) = loaded(base, config), loaded(base, config)
    assert len(kept_bases()) == 2 and not told
    assert differences(fresh, kept) == []


def test_the_next_load_reads_what_is_kept_and_not_the_base(base: Path, kept: Path) -> None:
    fingerprint_folder(base)
    before = load_file(base / _WEIGHTS)[_EMBEDDING].clone()  # a file's tensors change with it
    change(base, where=lambda name: name == _EMBEDDING)
    after, told = loaded(base)
    assert _same(after.get_input_embeddings().weight, before) and not told
    assert not _same(load_file(base / _WEIGHTS)[_EMBEDDING], before)


def test_a_base_with_other_content_is_another_base(base: Path, kept: Path) -> None:
    change(base, where=lambda name: name == _EMBEDDING)
    (base / _WEIGHTS).touch()
    after, told = loaded(base)
    assert len(kept_bases()) == 2 and not told
    assert _same(after.get_input_embeddings().weight, load_file(base / _WEIGHTS)[_EMBEDDING])


def test_weights_that_the_base_does_not_give_any_more_are_told_and_dropped(base: Path, kept: Path) -> None:
    fingerprint_folder(base)
    change(base, where=lambda name: "proj" in name)
    after, told = loaded(base)
    assert len(told) == 1 and "is not what the base's files give" in told[0]
    again, told = loaded(base)
    assert differences(after, again) == [] and not told


def _flip(folder: Path) -> None:
    data = bytearray((folder / _WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / _WEIGHTS).write_bytes(data)


def _cut(folder: Path) -> None:
    os.truncate(folder / _WEIGHTS, 1000)


def _forget(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _add(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    _list_again(folder)


def _exchange_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    _list_again(folder)


def _exchange_weights(folder: Path) -> None:
    weights = load_file(folder / _WEIGHTS)
    save_file({name: item for name, item in weights.items() if "norm" not in name}, folder / _WEIGHTS, {"format": "pt"})
    _list_again(folder)


def _exchange_states(folder: Path) -> None:
    weights = load_file(folder / _WEIGHTS)
    changed = {name: torch.ones(9, dtype=torch.uint8) if "quant_state" in name else weights[name] for name in weights}
    save_file(changed, folder / _WEIGHTS, {"format": "pt"})
    _list_again(folder)


def _no_folder(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_text("a file")


def _list_again(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    write_manifest(folder, KeptManifest(base="tiny-llama"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "damage", [_flip, _cut, _forget, _add, _exchange_config, _exchange_weights, _exchange_states, _no_folder]
)
def test_damage_is_told_in_a_sentence_and_the_base_is_loaded_from_its_files(
    damage: Callable[[Path], None], whole: Path, kept: Path, kept_once: Path, fresh: Any
) -> None:
    damage(kept)
    after, told = loaded(whole)
    assert differences(fresh, after) == []
    assert len(told) == 1 and told[0].startswith("The 4-bit copy of tiny-llama in the cache is removed and made again.")
    assert (kept / _WEIGHTS).read_bytes() == (kept_once / _WEIGHTS).read_bytes()
    assert read_manifest(kept, KeptManifest) == read_manifest(kept_once, KeptManifest)


def test_what_a_newer_version_kept_is_left_alone(whole: Path, kept: Path, fresh: Any) -> None:
    facts = {**json.loads((kept / "manifest.json").read_bytes()), "version": 99}
    del facts["checksum"]
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    newer = json.dumps({**facts, "checksum": hashlib.sha256(text.encode()).hexdigest()})
    (kept / "manifest.json").write_text(newer)
    after, told = loaded(whole)
    assert differences(fresh, after) == [] and not told
    assert (kept / "manifest.json").read_text() == newer


def test_a_drive_without_room_is_told_and_nothing_is_kept(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    _, told = loaded(base)
    assert len(told) == 1 and "1000 B are free" in told[0] and not kept_bases()


def test_a_disk_that_is_full_while_it_is_written_fails_nothing(base: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        model, told = loaded(base)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert model.config.num_hidden_layers and list(kept_path().iterdir()) == []
    assert told == ["tiny-llama in 4 bits is not kept in the cache: File too large. The next run quantizes it again."]


def test_a_cache_that_cannot_be_written_fails_nothing(base: Path, studio_home: Path) -> None:
    (studio_home / "user").mkdir()
    (studio_home / "user" / "cache").write_text("a file where the cache should be")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QLORA_STUDIO_HOME", str(studio_home / "user"))
        model, _ = loaded(base)
        assert model.config.num_hidden_layers and not kept_bases()


def test_what_is_kept_is_its_users_alone(base: Path) -> None:
    loaded(base)
    [folder] = kept_bases()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert (modes, stat.S_IMODE(folder.stat().st_mode)) == ({0o600}, 0o700)


def test_who_wants_nothing_kept_has_nothing_kept_and_nothing_read(base: Path, kept: Path) -> None:
    fingerprint_folder(base)
    change(base, where=lambda name: name == _EMBEDDING)
    save_settings(Settings(keep_bases=False))
    model, _ = loaded(base)
    assert _same(model.get_input_embeddings().weight, load_file(base / _WEIGHTS)[_EMBEDDING])
    assert len(kept_bases()) == 1


def test_what_is_quantized_in_no_time_is_not_kept(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_base, "_LEAST", (whole / _WEIGHTS).stat().st_size + 1)
    loaded(whole)
    assert not kept_bases()


def test_stacked_experts_are_quantized_each_time_and_nothing_is_said(tmp_path: Path) -> None:
    mixture = make_mixture(tmp_path / "mixture", "qwen3_moe")
    (one, told), (other, told_again) = loaded(mixture), loaded(mixture)
    assert not kept_bases() and not told and not told_again
    assert differences(one, other) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", [*A_DOZEN, *WRAPPERS])
def test_what_is_kept_of_any_family_is_what_its_files_give(family: str, tmp_path: Path) -> None:
    folder = tmp_path / "base"
    make_base(folder, family) if family in WRAPPERS else save_tiny(family, folder)
    (fresh, told), (kept, told_again) = loaded(folder), loaded(folder)
    assert len(kept_bases()) == (family != "falcon")  # whose queries, keys and values are joined as they are loaded
    assert differences(fresh, kept) == [] and not told and not told_again


@pytest.mark.parametrize("is_kept", [False, True])
def test_shares_of_a_base_are_the_parts_of_the_whole_and_none_of_them_is_kept(base: Path, is_kept: bool) -> None:
    told = Told()
    if is_kept:
        load_base(base, RunConfig(), _DEVICE)
    shares = [load_base(base, RunConfig(), _DEVICE, reporter=told, share=Share(rank, 3)) for rank in range(3)]
    assert (len(kept_bases()), told.warnings) == (int(is_kept), [])
    whole = load_base(base, RunConfig(), _DEVICE)
    for name, module in whole.named_modules():
        if isinstance(module, Linear4bit):
            weight: Any = module.weight
            parts = [share.get_submodule(name).weight for share in shares]
            assert torch.equal(torch.cat([part.data for part in parts]), weight.data)
            assert all(torch.equal(part.quant_state.absmax, weight.quant_state.absmax) for part in parts)
            assert parts[0].nbytes < weight.nbytes / 2
