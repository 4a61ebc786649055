"""The VRAM estimate: its parts, whether it fits, what would help. Tracing real code belongs in `engine.memory`."""
