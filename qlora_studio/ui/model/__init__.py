"""The Model page: the base model, and what its files say of it."""
