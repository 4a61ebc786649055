"""The settings of a run: each with its words and limits, and the file that they are kept in."""
