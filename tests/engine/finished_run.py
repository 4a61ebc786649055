"""A run that has been trained, by its files: a tiny base, an adapter with its tokenizer and fingerprint, and data."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.storage.durable import write_manifest
from qlora_studio.storage.runs.checkpoint_folder import CheckpointManifest
from qlora_studio.storage.runs.fingerprint import fingerprint_folder, write_base_fingerprint
from qlora_studio.storage.runs.run_folder import RunFolder, create_run_folder
from tests.engine.families import make_adapter, make_base, make_tokenizer


def make_run(folder: Path, family: str = "llama", *, method: str = "nf4", **lora: Any) -> RunFolder:
    """Return a finished run under `folder`, with held-out rows."""
    base = make_tokenizer(make_base(folder / "base-model", family, dtype=torch.bfloat16))
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A base\n")
    data = folder / "data.jsonl"
    rows = [
        {"messages": [{"role": "user", "content": f"what is {n}?"}, {"role": "assistant", "content": f"a number, {n}"}]}
        for n in range(20)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig.model_validate(
        {
            "name": "tiny run",
            "model": {"source": str(base)},
            "data": {"path": str(data), "evaluation_share": 0.2},
            "quantization": {"method": method},
            "training": {"max_length": 128},
            "lora": {"rank": 4},
        }
    )
    run = create_run_folder(folder / "runs", config)
    make_adapter(run.adapter_path, base, **lora)
    for path in base.glob("*token*"):
        shutil.copyfile(path, run.adapter_path / path.name)
    for name in ("chat_template.jinja", "generation_config.json"):
        if (base / name).is_file():
            shutil.copyfile(base / name, run.adapter_path / name)
    write_base_fingerprint(run.adapter_path, fingerprint_folder(base))
    write_manifest(run.adapter_path, CheckpointManifest(step=0))
    return run
