"""The Settings page, and what the program is made of."""
