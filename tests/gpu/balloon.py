"""Another program on the card: takes all of it but so many bytes, says so, and holds it until its input ends.

python -m tests.gpu.balloon FREE_BYTES
"""

import sys

import torch

_CHUNK = 64 << 20

if __name__ == "__main__":
    taken = []
    while torch.cuda.mem_get_info()[0] - _CHUNK > int(sys.argv[1]):
        taken.append(torch.empty(_CHUNK, dtype=torch.uint8, device="cuda"))
    print("taken", flush=True)
    sys.stdin.read()
