"""Whether the draft is ready: what is known of its model and rows as they are now, and where each step stands."""
