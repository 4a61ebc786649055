"""Run folders and what lies in them, the queue, the space for both. What events mean belongs in `core.run`."""
