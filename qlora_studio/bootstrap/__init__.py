"""What stands before the program: makes, repairs, renews and removes the environment that it runs in, for one user.

It runs on the system's own Python, out of the wheel as it lies there, so nothing here needs more than the standard
library; of the rest of the program it knows words and the table of PyTorch's builds.
"""
