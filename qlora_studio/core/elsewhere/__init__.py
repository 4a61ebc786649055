"""A run that trains on another computer: the place, its scheduler's job script and answers, what is sent there."""
