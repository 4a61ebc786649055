"""Files: run folders, checkpoints, settings, models on disk, datasets. No Qt, no torch."""
