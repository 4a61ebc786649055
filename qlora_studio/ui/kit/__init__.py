"""Widgets and looks that know nothing of runs: themes, fields, tables, layouts. What shows a run is with its page."""
