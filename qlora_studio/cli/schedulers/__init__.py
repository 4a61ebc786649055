"""Commands that send a run elsewhere, or write it for somebody else's scheduler."""
