"""Prints the predicted rates of docs/MEMORY.md, with the choice made for each:  python -m tests.benchmarks.rates

`python -m tests.gpu.check_rates` holds predictions against a card.
"""

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.memory.fastest import Situation, fastest_fit
from qlora_studio.core.memory.gpu_catalogue import find_gpu
from qlora_studio.core.memory.spare import checkpointed_of, estimate_with_spare
from qlora_studio.core.memory.step_rate import rounded
from qlora_studio.storage.models.catalogue import find_in_catalogue

MODELS = ("meta-llama/Llama-3.1-8B-Instruct", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B")
CARDS = ("RTX 3090 24 GB", "RTX 4090 24 GB")
COLUMNS = ((512, 0.05), (2048, 0.05), (512, 0.0), (2048, 0.0))  # tokens of a row, dropout


def main() -> None:
    """Print the table."""
    print("\n".join(lines()))


def lines() -> list[str]:
    """Return the table's lines: 16 rows a step, rank 16, nothing else on the card."""
    heads = [f"{tokens:,} tokens, dropout {dropout:g}" for tokens, dropout in COLUMNS]
    rows = [
        [card[:8], model.split("/")[1], *(_cell(model, card, *at) for at in COLUMNS)]
        for card in CARDS
        for model in MODELS
    ]
    return [_line(["Card", "Model", *heads]), _line(["---"] * (2 + len(heads))), *map(_line, rows)]


def _cell(model: str, card: str, tokens: int, dropout: float) -> str:
    config = RunConfig().with_value("training.max_length", tokens).with_value("lora.dropout", dropout)
    known, gpu = find_in_catalogue(model), find_gpu(card)
    assert known is not None
    assert gpu is not None
    shape = known.shape
    found = fastest_fit(config, Situation(shape, gpu, gpu.free_bytes, lambda tried: estimate(tried, shape, gpu=gpu)))
    assert found.rate is not None
    chosen = found.proposal.config
    resolved, _ = estimate_with_spare(chosen, shape, gpu.free_bytes, lambda tried: estimate(tried, shape, gpu=gpu))
    layers = f"{checkpointed_of(resolved, shape.layers)} of {shape.layers}"
    optimizer = ", 8-bit AdamW" if chosen.training.optimizer != config.training.optimizer else ""
    batch = f"{chosen.training.batch_size} × {chosen.training.gradient_accumulation}"
    return f"**{rounded(found.rate.tokens_per_second):,}**: {batch}, {layers}{optimizer}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |" if cells[0] != "---" else f"|{'|'.join(cells)}|"


if __name__ == "__main__":
    main()
