"""The strict reader: files, containers, rows. What a row means belongs in `core.data`, tokens in `engine.data`."""
