"""The Data page: sources, rows, lengths, and the X-ray of a row."""
