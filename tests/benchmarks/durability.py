"""What durable checkpoints cost: seconds each and share of the run, beside the plain Trainer's on the same steps.

    python -m tests.benchmarks.durability [--rank 16] [--steps 12] [--every 2] [--model starter]

Both train in this process, one after the other and in turns (`--rounds`), on the same rows in NF4, and save adapter,
optimizer, schedule and random states. The plain Trainer neither syncs nor hashes what it writes. Prints the figures and
stores them as tests/benchmarks/results/durability.json.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "durability.json"
_INTERVAL = 600.0  # seconds between two checkpoints, as the defaults have it
_LENGTH = 128  # tokens of a row


@dataclass
class Saves:
    """The saves of one way: seconds of each, bytes of one, and seconds of the training around them, saves included."""

    seconds: list[float] = field(default_factory=list)
    size_bytes: int = 0
    run_seconds: float = 0.0

    @property
    def median(self) -> float:
        """The median of a save, in seconds."""
        return statistics.median(self.seconds)

    @property
    def share(self) -> float:
        """The part of the run that went into saves."""
        return sum(self.seconds) / self.run_seconds


def main() -> None:
    """Measure, print and store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    ours, plain = Saves(), Saves()
    with tempfile.TemporaryDirectory() as folder:
        run = _Run(Path(folder), arguments)
        for number in range(arguments.rounds):
            run.durable(ours, f"ours-{number}")
            run.plain(plain, f"plain-{number}")
    report = _report(ours, plain, arguments)
    print(json.dumps(report, indent=1))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


class _Run:
    """The starter rows and a model, trained in either way."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        from qlora_studio.engine.context import JobContext
        from qlora_studio.engine.data.prepared import prepare_datasets
        from qlora_studio.engine.model.base import base_folder, tokenizer_of
        from qlora_studio.engine.model.device import choose_device
        from qlora_studio.storage.presets import load_preset
        from qlora_studio.storage.runs.run_folder import create_run_folder

        settings = {
            "model.source": arguments.model,
            "lora.rank": arguments.rank,
            "training.max_steps": arguments.steps,
            "training.batch_size": 1,
            "training.gradient_accumulation": 1,
            "training.max_length": _LENGTH,
            "checkpoint.every_steps": arguments.every,
            "evaluation.every_steps": 0,
            "data.evaluation_share": 0.0,
        }
        config = load_preset("starter")
        for path, value in settings.items():
            config = config.with_value(path, value)
        self.config, self.folder = config, folder
        self.context = JobContext(create_run_folder(folder / "prepared", config))
        self.base = base_folder(arguments.model)
        self.tokenizer = tokenizer_of(self.base)
        self.rows = prepare_datasets(config, self.tokenizer, self.context.folder, self.context).training
        self.device = choose_device(config, self.context)

    def durable(self, saves: Saves, name: str) -> None:
        """Train as a run does."""
        from qlora_studio.core.run.events import CheckpointSaved
        from qlora_studio.engine.context import JobContext
        from qlora_studio.storage.runs.run_folder import create_run_folder

        context = JobContext(create_run_folder(self.folder / name, self.config))
        trainer = self._trainer(context)
        saves.run_seconds += _timed(trainer.train)
        saved = [event for event in context.folder.events() if isinstance(event, CheckpointSaved)]
        saves.seconds += [event.seconds for event in saved]
        saves.size_bytes = saved[-1].size_bytes
        context.close()

    def plain(self, saves: Saves, name: str) -> None:
        """Train with the plain Trainer and its own saves."""
        from transformers import Trainer, TrainingArguments

        class Timed(Trainer):
            def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
                began = time.perf_counter()
                super()._save_checkpoint(*args, **kwargs)
                saves.seconds.append(time.perf_counter() - began)

        training = self.config.training
        ours = self._trainer(self.context)  # for its model, its collator and the arguments that both have
        out = self.folder / name
        shared = ("learning_rate", "lr_scheduler_type", "warmup_steps", "optim", "bf16", "fp16", "use_cpu", "seed")
        arguments = TrainingArguments(
            output_dir=str(out),
            max_steps=training.max_steps,
            per_device_train_batch_size=training.batch_size,
            save_strategy="steps",
            save_steps=self.config.checkpoint.every_steps,
            save_total_limit=self.config.checkpoint.keep,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            **{key: getattr(ours.args, key) for key in shared},
        )
        collate = ours.data_collator
        trainer = Timed(
            model=ours.model,
            args=arguments,
            train_dataset=self.rows,
            data_collator=lambda rows: _without_facts(collate(rows)),
            processing_class=self.tokenizer,
        )
        saves.run_seconds += _timed(trainer.train)
        newest = max(out.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
        saves.size_bytes = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())

    def _trainer(self, context: Any) -> Any:
        from transformers import set_seed
        from transformers.utils.logging import disable_progress_bar

        from qlora_studio.core.run.fingerprint import Fingerprints
        from qlora_studio.engine.model.adapted import attach_adapters, load_base
        from qlora_studio.engine.training.setup import build_trainer

        disable_progress_bar()
        set_seed(self.config.training.seed)
        model = attach_adapters(load_base(self.base, self.config, self.device), self.config)
        return build_trainer(
            model=model,
            tokenizer=self.tokenizer,
            training=self.rows,
            evaluation=None,
            config=self.config,
            device=self.device,
            context=context,
            made_from=Fingerprints(),
        )


def _report(ours: Saves, plain: Saves, arguments: argparse.Namespace) -> dict[str, Any]:
    ways = {"durable": ours, "plain": plain}
    figures = {
        name: {
            **asdict(saves),
            "median_seconds": saves.median,
            "share_of_this_run": saves.share,
            "share_at_ten_minutes": saves.median / (_INTERVAL + saves.median),
        }
        for name, saves in ways.items()
    }
    ratio = {"seconds": ours.median / plain.median, "bytes": ours.size_bytes / plain.size_bytes}
    return {"settings": vars(arguments), **figures, "durable_to_plain": ratio}


def _timed(work: Any) -> float:
    """Do the work, without what trainers print; return its seconds."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        work()
    return time.perf_counter() - began


def _without_facts(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in batch.items() if name in ("input_ids", "labels", "attention_mask")}


if __name__ == "__main__":
    main()
