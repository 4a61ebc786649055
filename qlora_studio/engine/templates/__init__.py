"""Chat templates: rendered in a sandbox, and which of the text is trained. Token ids belong in `engine.data`."""
