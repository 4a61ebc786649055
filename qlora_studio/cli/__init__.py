"""The command line: the same jobs and run folders as the window."""
