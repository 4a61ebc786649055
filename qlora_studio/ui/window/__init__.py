"""The frame that every page stands in: rail, status line, dialogs, notifications. No page is known here."""
