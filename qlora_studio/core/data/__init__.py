"""Rows and what becomes of them: formats, conversations, verdicts, splits. Reading files belongs in `storage`."""
