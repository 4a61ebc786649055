"""Commands that write a run for somebody else's scheduler."""
