"""QLoRA Studio: fine-tune a language model on one graphics card by pointing and clicking."""

__version__ = "0.1.0"
