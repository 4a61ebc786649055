"""The Chat page: one prompt, several models."""
