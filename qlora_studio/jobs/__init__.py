"""Supervision: start a worker, follow its events, stop it; sample the graphics card. No Qt, no torch."""
