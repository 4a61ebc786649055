"""The way of a row: open, read, render, mask, tokenize, split, pack, write; for preview and training alike."""
