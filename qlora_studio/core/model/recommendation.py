"""Which rank and learning rate suit a model's size: the article's advice, as defaults that the user may overrule."""

from qlora_studio.core.config.run_config import RunConfig

_BILLION = 1_000_000_000


def recommended_rank(parameters: int) -> int:
    """Return the LoRA rank for a model of so many parameters: 64 around 8B, 32 from 13B on, 16 for small ones."""
    if parameters >= 11 * _BILLION:
        return 32
    return 64 if parameters >= 6 * _BILLION else 16


def recommended_learning_rate(parameters: int) -> float:
    """Return the peak learning rate: 2e-4, and 1e-4 from 33B on (QLoRA paper, table 9)."""
    return 1e-4 if parameters >= 30 * _BILLION else 2e-4


def with_recommendations(config: RunConfig, parameters: int) -> RunConfig:
    """Return `config` with rank, alpha (equal to the rank) and learning rate as recommended for the size."""
    rank = recommended_rank(parameters)
    lora = config.lora.model_copy(update={"rank": rank, "alpha": rank})
    training = config.training.model_copy(update={"learning_rate": recommended_learning_rate(parameters)})
    return config.model_copy(update={"lora": lora, "training": training})
