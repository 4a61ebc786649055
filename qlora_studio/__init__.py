"""QLoRA Studio: fine-tune a language model on one graphics card by pointing and clicking."""

import os

__version__ = "0.1.0"

# A second thread of numpy's OpenBLAS spins a while for each product of the curves: half a second of processor time in
# the replay of a long run, taken from the training that the window watches. It is read when numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
