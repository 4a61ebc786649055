"""Writes docs/MODELS.md from what the sweep found: `python -m tests.models_page`."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("families.json")
PAGE = Path(__file__).parents[1] / "docs" / "MODELS.md"
_WORDS = {"works": "works", "refused": "refused before the start", "fails": "fails", "not tried": "not tried"}
_HEAD = """# Models

Every class for causal language modelling that the installed transformers has, tried by `make test-families`: a tiny
random model of its kind is trained for two steps in NF4 by the program's own job, with gradient checkpointing as on a
card, merged into its 16-bit weights, loaded again, and compared with base and adapter in fp32 (KL divergence of at most
1e-5 nats a token, and a tenth of what the adapter does). What is refused before the start, or fails, was also trained
with transformers and peft alone in 16 bit: *alone* says what came of that. *Not tried* are those of which no small
model could be built. This page is made from the results by `make models-page`.
"""


def page(found: dict[str, dict[str, Any]]) -> str:
    """Return the page for the results by model type."""
    counts = Counter(entry["verdict"] for entry in found.values())
    tried = sorted({entry["tried"] for entry in found.values() if "tried" in entry})
    lines = [_HEAD, "| Verdict | Families |", "|---|---|"]
    lines += [f"| {_WORDS[verdict]} | {counts[verdict]} |" for verdict in _WORDS]
    lines += [f"| all | {len(found)} |", "", f"Tried on {'; '.join(tried)}.", ""]
    lines += [
        "*Packs*: rows of a pack are kept apart. Where they are not, packing is refused by name and the family was "
        "trained without it. *GGUF*: the file in f16, read back, beside the adapter (KL).",
        "",
        "| model_type | Class | Verdict | Packs | GGUF | Why | alone |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_line(name, entry) for name, entry in sorted(found.items())]
    return "\n".join(lines) + "\n"


def _line(name: str, entry: dict[str, Any]) -> str:
    packs = ("yes" if entry.get("packed") else "no") if entry["verdict"] == "works" else ""
    cells = (
        f"`{name}`",
        f"`{entry['architecture']}`" if entry.get("architecture") else "",
        _WORDS[entry["verdict"]],
        packs,
        entry.get("gguf", ""),
        entry.get("reason", ""),
        entry.get("plain", ""),
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page(json.loads(RESULTS.read_text("utf-8"))), encoding="utf-8")
    print(PAGE, file=sys.stderr)
