"""The base model: found, loaded in 4 bit, adapted, saved; on which device. How it learns belongs in `training`."""
