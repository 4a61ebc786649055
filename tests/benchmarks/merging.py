"""Our merge beside peft's `merge_and_unload` + `save_pretrained`: wall time, CPU time and peak memory, as ratios.

    python -m tests.benchmarks.merging [--sizes 1b 3b] [--rounds 2] [--folder DIR] [--json FILE]

The last figures are kept in tests/benchmarks/results/merging.json.

Random bf16 Llamas are written, merged by both in processes of their own, compared tensor by tensor, and deleted. Both
write the same bytes; ours also hashes them and waits for the disk.
"""

import argparse
import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "heads": 4, "kv": 2},
    "1b": {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "heads": 32, "kv": 4},
    "3b": {"hidden_size": 2560, "intermediate_size": 8192, "num_hidden_layers": 34, "heads": 32, "kv": 8},
}
VOCABULARY = 32_000
_SHARD_LAYERS = 12


def main() -> None:
    """Measure every size asked for and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["1b"], choices=sorted(SIZES))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--skip-peft", action="store_true", help="only our own memory, where peft's would not fit")
    parser.add_argument("--child", nargs=4, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(_child(*arguments.child)))
        return
    results = [_measure(size, arguments) for size in arguments.sizes]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))
    for result in results:
        print(json.dumps(result))


def make_model(folder: Path, size: str) -> int:
    """Write a random Llama in shards; return its number of parameters."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, LlamaConfig

    shape = SIZES[size]
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape["hidden_size"],
        intermediate_size=shape["intermediate_size"],
        num_hidden_layers=shape["num_hidden_layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv"],
        tie_word_embeddings=False,
        dtype="bfloat16",
    )
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in AutoModelForCausalLM.from_config(config).state_dict().items()}
    torch.manual_seed(0)
    noise = (torch.randn(1 << 22) * 0.02).to(torch.bfloat16)
    shards: dict[int, dict[str, torch.Size]] = {}
    for name, tensor_shape in shapes.items():
        layer = int(name.split(".")[2]) if ".layers." in name else 0
        shards.setdefault(layer // _SHARD_LAYERS, {})[name] = tensor_shape
    folder.mkdir(parents=True)
    weight_map = {}
    for number, names in shards.items():
        file = f"model-{number + 1:05d}-of-{len(shards):05d}.safetensors"
        tensors = {name: _tiled(noise, item) for name, item in names.items()}
        save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(names, file))
        del tensors
    index = {"metadata": {"total_size": 2 * sum(item.numel() for item in shapes.values())}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    return sum(item.numel() for item in shapes.values())


def make_adapter(folder: Path, base: Path) -> None:
    """Write a random adapter of rank 16 on every linear layer but the head."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(base)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        adapted = get_peft_model(
            model, LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
        )
    torch.manual_seed(1)
    tensors = {}
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            tensors[name.replace(".default", "")] = torch.randn(parameter.shape) * 0.02
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    adapted.peft_config["default"].save_pretrained(str(folder))


def _tiled(noise: Any, shape: Any) -> Any:
    count = shape.numel()
    return noise.repeat(-(-count // noise.numel()))[:count].reshape(shape).contiguous()


def _child(way: str, base: str, adapter: str, out: str) -> dict[str, float]:
    """Merge one way in this process; imports are not measured."""
    import torch

    torch.set_num_threads(2)
    if way == "peft":
        from peft import PeftModel
        from transformers import AutoModelForCausalLM
    else:
        from qlora_studio.engine.merge.writer import merge_adapter
    imported, before = time.monotonic(), _cpu()
    if way == "peft":
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
        PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(out)
    else:
        merge_adapter(Path(base), Path(adapter), Path(out))
    return {"wall": time.monotonic() - imported, "cpu": _cpu() - before, "peak_rss_bytes": _peak()}


def _peak() -> int:
    """The largest resident size of this process alone: getrusage counts what the parent had at its start, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text("utf-8"))
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure(size: str, arguments: argparse.Namespace) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="merging-", dir=arguments.folder))
    try:
        _in_child("make", size, folder)
        ways = ["studio"] if arguments.skip_peft else ["peft", "studio"]
        runs: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(arguments.rounds):
            for way in ways:
                out = folder / f"{way}-out"
                shutil.rmtree(out, ignore_errors=True)
                command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.merging", "--child", way]
                done = subprocess.run(
                    [*command, str(folder / "base"), str(folder / "adapter"), str(out)],
                    check=True,
                    capture_output=True,
                    text=True,
                )
                runs[way].append(json.loads(done.stdout.splitlines()[-1]))
                print(size, way, number, runs[way][-1], flush=True)
        same = _same(folder / "peft-out", folder / "studio-out") if "peft" in ways else None
        best = {way: {key: min(run[key] for run in found) for key in found[0]} for way, found in runs.items()}
        result: dict[str, Any] = {"size": size, "bytes": _bytes(folder / "base"), "tensors_equal": same, **best}
        if "peft" in best:
            result["ratio"] = {key: round(best["studio"][key] / best["peft"][key], 3) for key in best["peft"]}
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_child(what: str, size: str, folder: Path) -> None:
    """Make the model in a process of its own, so that nothing of it stays in this one's memory."""
    program = (
        "import sys; from pathlib import Path; from tests.benchmarks import merging; "
        "folder = Path(sys.argv[2]); merging.make_model(folder / 'base', sys.argv[1]); "
        "merging.make_adapter(folder / 'adapter', folder / 'base')"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, size, str(folder)], check=True, capture_output=True)


def _same(one: Path, other: Path) -> str:
    """Compare two folders tensor by tensor, one tensor at a time."""
    import torch

    from qlora_studio.engine.merge.safetensors_file import WeightsFolder

    left, right = WeightsFolder(one), WeightsFolder(other)
    equal = sum(torch.equal(left.tensor(name), right.tensor(name)) for name in left.places)
    return f"{equal}/{len(right.places)}"


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


if __name__ == "__main__":
    main()
