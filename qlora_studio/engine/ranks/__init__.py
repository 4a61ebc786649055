"""Several cards that train one run: how their processes are started, meet, and add up what each has found."""
