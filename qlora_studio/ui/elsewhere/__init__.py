"""Running on a cluster over the user's own ssh: the dialog that sends a run there, and what its pages say of it."""
