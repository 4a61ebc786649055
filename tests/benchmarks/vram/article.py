"""Prints what three ways to train take beside the QLoRA article's table:  python -m tests.benchmarks.vram.article

docs/MEMORY.md says where the differences come from.
"""

from dataclasses import replace

from qlora_studio.core.memory.estimator import estimate_setup
from qlora_studio.core.memory.method_comparison import compare_methods
from qlora_studio.core.memory.setup import MemorySetup
from tests.core.memory.qlora_article import ARTICLE_GB, article_shapes

# A QLoRA run as the article's code made it: fp32 casts of embeddings and head, full logits, fp32 adapters.
_ARTICLE_RUN = MemorySetup(rank=16, row_tokens=512, adapter_bytes=4, loss="plain", upcast=True)


def main() -> None:
    """Print the table in GB (1e9 bytes): the article's figure, then ours."""
    print("size   full            LoRA            QLoRA           QLoRA made as in the article")
    for size, shape in article_shapes().items():
        ours = [row.estimate.total_bytes / 1e9 for row in compare_methods(shape)]
        as_then = estimate_setup(shape, replace(_ARTICLE_RUN, targets=shape.targets("auto"))).total_bytes / 1e9
        pairs = "".join(f"{stated:5d} {found:7.1f}   " for stated, found in zip(ARTICLE_GB[size], ours, strict=True))
        print(f"{size:4s} {pairs}{as_then:7.1f}")


if __name__ == "__main__":
    main()
