"""From a run to files that others can use, and their way to the hub. That they are right proves `verification`."""
