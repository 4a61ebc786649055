"""The Training page: the form made of the run config, and what follows from it."""
