"""The GPU panel at the right of every page."""
