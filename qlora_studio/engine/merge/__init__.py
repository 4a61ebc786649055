"""Adapter and base as one set of weights, streamed. Formats other than safetensors belong in `gguf`."""
