"""A training run: trainer, checkpoints, resuming, probe. What is trained on comes from `model` and `data`."""
