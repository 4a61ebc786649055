"""The dialog that runs a run again over a few values of its settings."""
