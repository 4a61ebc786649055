"""The Export page, and the uploads."""
