"""The Run page: tiles, curves and findings of one run, live or replayed."""
