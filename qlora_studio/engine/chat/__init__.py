"""Answers of base, tuned, merged and GGUF models, streamed."""
