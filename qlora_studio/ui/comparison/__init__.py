"""The page that lays runs side by side: their curves, what differs, what came of them, their answers."""
