"""Runs on other computers: the connection, what is sent, submitted and fetched, and the mirror that follows a run."""
