"""What the desktop does for the window: folders opened, notifications told, a place for a file asked for."""
