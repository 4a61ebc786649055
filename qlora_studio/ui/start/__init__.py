"""The page to begin from: the starter, data of one's own, or a run that is there already."""
