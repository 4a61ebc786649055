"""Python imports this before anything else where this folder is in PYTHONPATH: what it imports then finds a card."""

from tests.rehearsal.imports import watch_imports

watch_imports()
