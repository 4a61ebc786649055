"""The worker process: torch, transformers, peft, trl and bitsandbytes live here and nowhere else."""
