"""Models that LM Studio, Ollama and the hub's library keep here are found by names and manifests alone."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from qlora_studio.core.errors import StudioError
from qlora_studio.storage.models.local_models import LocalModel, local_models
from qlora_studio.storage.models.location import locate_model, model_facts

_DIGEST = "ab" * 32


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def put(path: Path, data: bytes = b"weights") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def of_ollama(models: Path, name: str, weights: bytes = b"weights", digest: str | None = None) -> Path:
    """Lay a model down as Ollama does; return the file of its weights."""
    digest = digest or hashlib.sha256(weights).hexdigest()
    layers = [
        {"mediaType": "application/vnd.ollama.image.template", "digest": f"sha256:{'0' * 64}", "size": 3},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(weights)},
    ]
    put(models / "manifests" / name, json.dumps({"schemaVersion": 2, "layers": layers}).encode())
    return put(models / "blobs" / f"sha256-{digest}", weights)


def in_hub_cache(cache: Path, name: str, *files: str) -> None:
    repository = cache / f"models--{name.replace('/', '--')}"
    put(repository / "refs" / "main", b"c0ffee")
    for file in files:
        put(repository / "snapshots" / "c0ffee" / file)


def test_each_programs_models_are_named_as_it_names_them(home: Path) -> None:
    studio, ollama = home / ".lmstudio" / "models", home / ".ollama" / "models"
    gguf = put(studio / "qwen" / "Qwen3-8B-GGUF" / "Qwen3-8B-Q4_K_M.gguf")
    for beside in ("mmproj-f16.gguf", "big-00002-of-00003.gguf", "README.md"):
        put(studio / "qwen" / "Qwen3-8B-GGUF" / beside)
    of_ollama(ollama, "registry.ollama.ai/library/llama3.2/3b")
    of_ollama(ollama, "registry.ollama.ai/me/mine/latest", b"others")
    of_ollama(ollama, "hf.co/unsloth/gemma/Q8_0", b"more of it")
    in_hub_cache(home / ".cache" / "huggingface" / "hub", "Qwen/Qwen3-8B", "config.json", "model.safetensors")
    in_hub_cache(home / ".cache" / "huggingface" / "hub", "someone/tokenizer-only", "config.json")

    assert local_models() == (
        LocalModel("Qwen/Qwen3-8B", "Hugging Face", "Qwen/Qwen3-8B", 7),
        LocalModel("Qwen3-8B-Q4_K_M", "LM Studio", str(gguf), 7),
        LocalModel("hf.co/unsloth/gemma:Q8_0", "Ollama", "ollama:hf.co/unsloth/gemma:Q8_0", 10),
        LocalModel("llama3.2:3b", "Ollama", "ollama:llama3.2:3b", 7),
        LocalModel("me/mine:latest", "Ollama", "ollama:me/mine:latest", 6),
    )
    assert all(locate_model(model.source).path is not None for model in local_models())


def test_lm_studio_may_be_at_home_elsewhere_and_keep_its_models_elsewhere_again(home: Path) -> None:
    moved, kept = put(home / "b" / "models" / "x" / "y" / "m.gguf"), put(home / "c" / "x" / "y" / "n.gguf")
    put(home / ".lmstudio-home-pointer", f"{home / 'b'}\n".encode())
    put(home / "b" / "settings.json", json.dumps({"downloadsFolder": str(home / "c")}).encode())
    assert [model.source for model in local_models()] == [str(moved), str(kept)]


@pytest.mark.parametrize(
    "said", [b"", b"\xff", b"models", b"/a\x00b", b"x" * 9000, b'{"downloadsFolder": 3}', b"[]", b"{}"]
)
def test_what_lm_studio_says_of_its_folders_and_is_no_folder_is_passed_over(said: bytes, home: Path) -> None:
    put(home / ".lmstudio-home-pointer", said)
    put(home / ".lmstudio" / "settings.json", said)
    kept = put(home / ".lmstudio" / "models" / "x" / "y" / "m.gguf")
    assert [model.source for model in local_models()] == [str(kept)]


def test_where_there_are_none_none_are_found(home: Path) -> None:
    assert local_models() == ()


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"[]",
        b'{"layers": {}}',
        b'{"layers": [1, null, {"mediaType": 3}, {"mediaType": "x.image.model", "digest": ["sha256"]}]}',
        b'{"layers": [{"mediaType": "x.image.model", "digest": "sha256:../../../secret"}]}',
        b'{"layers": ' + b"[" * 100_000,
        b" " * (2 << 20),
    ],
)
def test_a_manifest_that_is_damaged_or_leads_elsewhere_is_passed_over(manifest: bytes, home: Path) -> None:
    put(home / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library" / "x" / "1b", manifest)
    assert local_models() == ()
    with pytest.raises(StudioError, match="There is no model at 'ollama:x:1b'"):
        locate_model("ollama:x:1b")


@pytest.mark.parametrize("name", ["", ":", "..:..", "a/b/c/d/e", "../../x:y", "x:y/z", "x\x00", "x" * 5000])
def test_a_name_that_ollama_never_gives_leads_nowhere(name: str, home: Path) -> None:
    of_ollama(home / ".ollama" / "models", "registry.ollama.ai/library/x/latest")
    with pytest.raises(StudioError, match="There is no model at"):
        locate_model(f"ollama:{name}")


@pytest.mark.skipif(sys.platform == "win32", reason="links are a matter of rights there")
def test_a_manifest_that_is_a_link_out_of_ollamas_folder_is_not_read(home: Path) -> None:
    models = home / ".ollama" / "models"
    of_ollama(models, "registry.ollama.ai/library/x/latest")
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / "x" / "latest"
    manifest.rename(home / "elsewhere")
    manifest.symlink_to(home / "elsewhere")
    assert local_models() == ()


def test_the_place_that_ollama_is_told_comes_first_and_its_file_is_read_as_a_gguf(
    home: Path, starter_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_ollama(home / ".ollama" / "models", "registry.ollama.ai/library/smol/latest", b"not this one")
    blob = of_ollama(home / "own", "registry.ollama.ai/library/smol/latest", b"", digest=_DIGEST)
    blob.unlink()
    blob.hardlink_to(starter_gguf)
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "own"))
    location = locate_model("ollama:smol")

    assert location.kind == "gguf" and location.path == blob
    assert model_facts(location).parameters == model_facts(locate_model(str(starter_gguf))).parameters
    assert len(local_models()) == 1
