"""The language model inside one that also sees or hears: a GGUF holds it alone, as if there were nothing else."""

from typing import Any

_ELSEWHERE = ("visual.", "vision_", "vision.", "audio_", "projector", "embed_vision", "embed_audio", "patch_embed")


def settings_of(config: Any) -> dict[str, Any]:
    """Return what a transformers config says of the language model; `wrapper` is the kind of what is around it."""
    said: dict[str, Any] = config.to_dict()
    text = config.get_text_config()
    if text is config:
        return said
    inner = {key: value for key, value in text.to_dict().items() if key != "architectures"}
    return {**said, **inner, "wrapper": said["model_type"], "tie_word_embeddings": said.get("tie_word_embeddings")}


def text_name(name: str) -> str:
    """Return what a tensor of the language model is called where there is nothing else."""
    return name.replace("language_model.", "")


def is_text(name: str) -> bool:
    """Whether a tensor of a model that also sees or hears is of its language model."""
    return not any(part in name for part in _ELSEWHERE)
