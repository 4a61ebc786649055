"""Models on disk: where they lie, their configs and headers. Nothing is loaded: weights are read in `engine`."""
