"""The window shown to others: a sample run, screenshots, the self-test."""
