"""Curves: plots of named series that are looked at together, whatever they are of. Knows nothing of runs or pages."""
