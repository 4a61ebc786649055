"""One arm of the benchmark of training, in a process of its own: `python -m tests.benchmarks.training_arms ARM FOLDER`.

FOLDER has `settings.json` and `rows.jsonl`. Each phase and each step is written to `marks.jsonl` when it ends, with the
clock, the processor's seconds and the memory at that moment. `plain` and the seed's recipe use no code of the program.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

_BEGAN = time.time()
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
_WITHOUT = {"ours": "", "every position": "head", "rows as drawn": "order", "padded": "end to end"}
_DEFAULTS: dict[str, dict[str, Any]] = {  # beside plain trl at its dropout: ours as it comes, and with less memory
    "no dropout": {"lora": {"dropout": 0.0}},
    "half checkpointed": {"lora": {"dropout": 0.0}, "training": {"checkpointed_layers": 15}},
}


class Marks:
    """What happened when, written as it happens."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "marks.jsonl").open("w", encoding="utf-8")
        self._slots = 0

    def phase(self, name: str) -> None:
        """A phase has ended."""
        self._write(phase=name)

    def step(self, loss: float, norm: float) -> None:
        """An optimizer step was taken."""
        self._write(loss=loss, norm=norm, slots=self._slots)
        self._slots = 0

    def count_slots(self) -> None:
        """Count the tokens of all batches from now on, padding included."""
        from transformers import Trainer

        step = Trainer.training_step

        def counting(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            self._slots += inputs["input_ids"].numel()
            return step(trainer, model, inputs, *args, **kwargs)

        setattr(Trainer, "training_step", counting)  # noqa: B010

    def _write(self, **facts: Any) -> None:
        times, status = os.times(), Path("/proc/self/status").read_text("utf-8")
        kilobytes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        cpu = times.user + times.system + times.children_user + times.children_system
        facts |= {
            "wall": time.time() - _BEGAN,
            "cpu": cpu,
            "peak": int(kilobytes["VmHWM"]) * 1024,
            "card": _card_peak(),
        }
        self._file.write(json.dumps(facts) + "\n")
        self._file.flush()


def _card_peak() -> int:
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch and torch.cuda.is_available() else 0


def seed_recipe(marks: Marks, settings: dict[str, Any], rows: list[Any]) -> None:
    """The article's recipe: k-bit preparation, eager attention, checkpointing, all of a row's text learned."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTTrainer

    marks.count_slots()
    marks.phase("imports")
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    dataset = Dataset.from_dict({"text": texts})
    marks.phase("data")
    set_seed(42)
    model: Any = AutoModelForCausalLM.from_pretrained(
        settings["model"], quantization_config=_nf4(), attn_implementation="eager", dtype=torch.bfloat16
    )
    model = prepare_model_for_kbit_training(model, gradient_checkpointing_kwargs={"use_reentrant": False})
    model = get_peft_model(model, LoraConfig(**_lora(settings)))
    marks.phase("model")
    checkpointing = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": False}}
    arguments = _arguments(settings, dataset_text_field="text", max_length=2048, **checkpointing)
    trainer: Any = SFTTrainer(model=model, args=arguments, train_dataset=dataset, processing_class=tokenizer)
    _train(trainer, marks)


def plain(marks: Marks, settings: dict[str, Any], rows: list[Any]) -> None:
    """Today's trl with the rows that our run trains, and its settings; checkpointing off, as ours on a processor."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed
    from trl import SFTTrainer

    marks.count_slots()
    marks.phase("imports")
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    tokenized = json.loads(Path(settings["tokenized"]).read_text("utf-8"))
    dataset = Dataset.from_dict(tokenized)
    marks.phase("data")
    set_seed(42)
    model: Any = AutoModelForCausalLM.from_pretrained(
        settings["model"], quantization_config=_nf4(), dtype=torch.bfloat16
    )
    marks.phase("model")
    on_card = torch.cuda.is_available()
    trainer: Any = SFTTrainer(
        model=model,
        args=_arguments(
            settings, dataset_kwargs={"skip_prepare_dataset": True}, max_length=2048, activation_checkpointing=on_card
        ),
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=LoraConfig(**_lora(settings)),
    )
    _train(trainer, marks)


def ours(
    marks: Marks, settings: dict[str, Any], without: str = "", changes: dict[str, dict[str, Any]] | None = None
) -> None:
    """Our run: the job that a worker runs, in this process. `without` leaves out what one lever does."""
    from qlora_studio.core.config.run_config_text import from_mapping
    from qlora_studio.core.run.events import Event, PhaseChanged, StepDone
    from qlora_studio.core.run.job import TrainJob
    from qlora_studio.engine.context import JobContext
    from qlora_studio.engine.training import job, trainer
    from qlora_studio.storage.runs.run_folder import create_run_folder

    marks.count_slots()
    marks.phase("imports")

    class Context(JobContext):
        before = "start"

        def emit(self, event: Event) -> None:
            super().emit(event)
            if isinstance(event, PhaseChanged) and event.phase != self.before:
                marks.phase(self.before)
                self.before = event.phase
            if isinstance(event, StepDone):
                marks.step(event.loss or 0.0, event.gradient_norm or 0.0)

    if without == "head":
        from contextlib import nullcontext

        setattr(trainer, "trained_positions", lambda model, inputs: nullcontext(inputs))  # noqa: B010  mypy's sake
    if without == "order":
        from transformers import Trainer

        setattr(trainer.StudioTrainer, "_get_train_sampler", Trainer._get_train_sampler)  # noqa: B010
    if without == "end to end":
        setattr(job, "lay_end_to_end", lambda model: False)  # noqa: B010
    folder = Path(settings["folder"])
    mapping: dict[str, Any] = {
        "model": {"source": settings["model"]},
        "data": {"path": str(folder / "rows.jsonl"), "evaluation_share": 0},
        "lora": {"rank": settings["rank"], "alpha": settings["rank"], "dropout": 0.05},
        "training": {
            "batch_size": settings["batch"],
            "gradient_accumulation": settings["accumulation"],
            "max_steps": settings["steps"],
            "max_length": 2048,
            "learning_rate": 2e-4,
            "max_grad_norm": 0.3,
            "warmup_ratio": 0,
        },
        "evaluation": {"every_steps": 0},
        "checkpoint": {"every_steps": 0},
        "export": {"merge": False},
    }
    for section, values in (changes or {}).items():
        mapping[section] |= values
    context = Context(create_run_folder(folder / "runs", from_mapping(mapping)))
    try:
        job.run(TrainJob(), context)
    finally:
        context.close()


def tokenize(settings: dict[str, Any]) -> None:
    """Write the rows as our run trains them, for the plain script."""
    from qlora_studio.core.config.run_config_text import from_mapping
    from qlora_studio.engine.context import JobContext
    from qlora_studio.engine.data.prepared import prepare_datasets
    from qlora_studio.engine.model.base import base_folder, tokenizer_of
    from qlora_studio.storage.runs.run_folder import RunFolder

    folder = Path(settings["folder"])
    base = base_folder(settings["model"])
    data = {"path": str(folder / "rows.jsonl"), "evaluation_share": 0}
    context = JobContext(RunFolder(folder / "run"))
    config = from_mapping({"data": data, "training": {"max_length": 2048}})
    rows = prepare_datasets(config, tokenizer_of(base), context.folder, context).training
    columns = {name: list(rows[name]) for name in ("input_ids", "labels")}
    Path(settings["tokenized"]).write_text(json.dumps(columns), encoding="utf-8")
    print(base)


def _nf4() -> Any:
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )


def _lora(settings: dict[str, Any]) -> dict[str, Any]:
    rank = settings["rank"]
    return {
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": TARGETS,
        "lora_dropout": 0.05,
        "bias": "none",
    }


def _arguments(settings: dict[str, Any], **more: Any) -> Any:
    import torch
    from trl import SFTConfig

    on_card = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(Path(settings["folder"]) / "out"),
        per_device_train_batch_size=settings["batch"],
        gradient_accumulation_steps=settings["accumulation"],
        max_steps=settings["steps"],
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        max_grad_norm=0.3,
        optim="paged_adamw_32bit" if on_card else "adamw_torch",  # nothing is paged without a card
        bf16=True,
        use_cpu=not on_card,
        seed=42,
        data_seed=42,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **more,
    )


def _train(trainer: Any, marks: Marks) -> None:
    log = trainer.log

    def told(logs: dict[str, Any], *args: Any) -> None:
        log(logs, *args)
        if "loss" in logs:
            marks.step(float(logs["loss"]), float(logs["grad_norm"]))

    setattr(trainer, "log", told)  # noqa: B010  mypy's sake
    marks.phase("trainer")
    trainer.train()


def main() -> None:
    """Run the arm that is named."""
    arm, folder = sys.argv[1], Path(sys.argv[2])
    settings = json.loads((folder / "settings.json").read_text("utf-8"))
    if arm == "tokenize":
        tokenize(settings)
        return
    if settings["cap_gb"]:
        import torch

        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, settings["cap_gb"] * 2**30 / total))
    marks = Marks(folder)
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text("utf-8").splitlines()]
    marks.phase("process")
    if arm == "seed":
        seed_recipe(marks, settings, rows)
    elif arm == "plain":
        plain(marks, settings, rows)
    else:
        ours(marks, settings, _WITHOUT.get(arm, ""), _DEFAULTS.get(arm))


if __name__ == "__main__":
    main()
