"""The window. Never imports the engine."""
