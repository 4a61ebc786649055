"""Runs beside each other, and a run again over a few values: what differs, what came of it. Pure."""
