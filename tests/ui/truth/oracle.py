"""What is true of a draft, found without the window: by the command line, by files, and by counting here.

Nothing of `qlora_studio.ui` is imported, and of the rest only the command line's entry, whose output is read as text.
"""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

Draft = dict[str, Any]
Command = Callable[..., tuple[int, str]]  # a command line's exit code and output
PRESETS = Path("resources/presets")
_SYSTEM = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
_ANSWERS = "assistant"
_OF_THE_MACHINE = {"hardware", "version"}


def toml(draft: Draft) -> str:
    """Return a draft as a run file."""
    top = "".join(f"{key} = {_toml(value)}\n" for key, value in draft.items() if not isinstance(value, dict))
    tables = (
        f"\n[{key}]\n" + "".join(f"{name} = {_toml(item)}\n" for name, item in value.items() if item is not None)
        for key, value in draft.items()
        if isinstance(value, dict)
    )
    return top + "".join(tables)


def presets(draft: Draft, defaults: Draft) -> set[str]:
    """Return the titles of the presets that would change nothing of the draft but its name; nothing where none is so.

    Some differ in nothing but their models, which a draft with one of its own does not take.
    """
    return {_title(path) for path in PRESETS.glob("*.toml") if not _changed(path, draft, defaults)}


def estimate(draft: Draft, card: str, place: Path, command: Command) -> dict[str, str | None]:
    """Return what the command line says that a draft takes, in all and in parts, and whether it fits the card."""
    run = place / "draft.toml"
    run.write_text(toml(draft), "utf-8")
    code, said = command("estimate", str(run), *(["--gpu", card] if card else []))
    if code:
        return {}
    lines = said.splitlines()
    parts = dict(re.findall(r"^  (\S.{13}) +(\d\S* \w+)$", said, re.MULTILINE))
    told = {name.strip(): size for name, size in parts.items()}
    fit = next((word for word in ("does not fit", "tight", "fits") if card and f"{word}," in said), "")
    return {"all": lines[0].partition(" (±")[0], "fit": fit, **told}


def is_here(source: str) -> bool:
    """Whether a model's files are on this machine."""
    return source == "starter" or (Path(source) / "config.json").is_file()


def trained_tokens(draft: Draft) -> tuple[int, int]:
    """Return how many tokens of answers one pass trains on, and the longest row as it is cut, counted here.

    For SmolLM2's template, datasets of `messages` with one answer each, and nothing held out. Where more is trained on
    than answers, none is counted.
    """
    tokenizer = Tokenizer.from_file(str(Path(draft["model"]["source"]) / "tokenizer.json"))
    trained, longest, most = 0, 0, draft["training"]["max_length"]
    for line in Path(draft["data"]["path"]).read_text("utf-8").splitlines():
        asked, answer = (turn["content"] for turn in json.loads(line)["messages"])
        before = f"{_SYSTEM}<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        begin = len(tokenizer.encode(before, add_special_tokens=False).ids)
        end = len(tokenizer.encode(f"{before}{answer}<|im_end|>", add_special_tokens=False).ids)
        trained += max(0, min(end, most) - begin)
        longest = max(longest, min(end + 1, most))  # the line break after it is read, and not learned
    return trained if draft["training"]["loss_on"] == _ANSWERS else 0, longest


def checks(draft: Draft, command: Command) -> tuple[bool, bool]:
    """Return whether a run would be refused for its data, and whether a check of them is not well."""
    data = draft["data"]["path"]
    settings = [f"--set={section}.{name}={_typed(value)}" for section, name, value in _deciding(draft)]
    code, said = command("check-data", data, "--model", draft["model"]["source"], "--json", *settings)
    report = json.loads(said.splitlines()[-1])
    return bool(code), any(check["level"] != "ok" for check in report["checks"])


def _deciding(draft: Draft) -> list[tuple[str, str, Any]]:
    training = ("max_length", "batch_size", "gradient_accumulation", "loss_on", "packing", "seed")
    names = {"training": training, "data": ("evaluation_share",)}
    return [(section, name, draft[section][name]) for section, named in names.items() for name in named]


def _changed(path: Path, draft: Draft, defaults: Draft) -> bool:
    wanted = tomllib.loads(path.read_text("utf-8"))
    kept = {"name", *_OF_THE_MACHINE}
    if "path" not in wanted.get("data", {}):
        kept |= {"data"} | ({"model"} if draft["model"]["source"] else set())
    for section, values in defaults.items():
        if section in kept or not isinstance(values, dict):
            continue
        for name, default in values.items():
            there, value = draft[section][name], wanted.get(section, {}).get(name, default)
            is_resource = isinstance(value, str) and value.startswith("resource:")
            if there != value and not (is_resource and there.endswith(value.removeprefix("resource:"))):
                return True
    return False


def _title(path: Path) -> str:
    return path.read_text("utf-8").splitlines()[0].removeprefix("#").strip()


def _typed(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)
