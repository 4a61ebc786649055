"""A run: its config, what is told of it and asked of it, what is known of it. No metric is drawn, no file read here."""
