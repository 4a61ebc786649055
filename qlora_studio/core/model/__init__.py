"""A model, from its config alone: family, shape, parameter counts. What it takes of a card belongs in `core.memory`."""
