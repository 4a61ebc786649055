"""How a run config becomes a trainer: its arguments, its callbacks, its checkpoints."""

import math
import time
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig

from qlora_studio.core.config.optimizer import optimizer_named
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import EvaluateNow, Pause, SaveCheckpoint, Stop
from qlora_studio.core.run.events import CheckpointSaved, Evaluated, StoppedEarly
from qlora_studio.core.run.fingerprint import Fingerprints
from qlora_studio.core.run.time_left import Schedule
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext
from qlora_studio.engine.data.collator import collator
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.memory.checkpointing import checkpoint_layers
from qlora_studio.engine.model.adapted import cast_adapters
from qlora_studio.engine.model.device import Device
from qlora_studio.engine.model.row_attention import attends_by_rows
from qlora_studio.engine.ranks.group import ALONE, Ranks
from qlora_studio.engine.training.disk_space import retried_when_full
from qlora_studio.engine.training.trainer import StudioTrainer
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder

_ENDINGS = (None, Pause(), Stop(save=True), Stop(save=False))  # as ranks tell them each other, by number


def build_trainer(
    *,
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    training: Any,
    evaluation: Any | None,
    config: RunConfig,
    device: Device,
    context: JobContext,
    made_from: Fingerprints,
    ranks: Ranks = ALONE,
) -> StudioTrainer:
    """Return a trainer over prepared rows or packs (`input_ids`, `labels`, `row`, and `seq_lengths` of packs)."""
    training_control = TrainingControl(config, context, can_evaluate=evaluation is not None, ranks=ranks)
    trainer = StudioTrainer(
        reporter=context,
        device=device,
        save_checkpoint=lambda trainer: _save(trainer, config, context, made_from),
        schedule=_schedule(config, training, evaluates=evaluation is not None),
        ranks=ranks,
        model=model,
        args=arguments(config, device, str(context.folder.checkpoints_path)),
        train_dataset=training,
        eval_dataset=evaluation,
        processing_class=tokenizer,
        data_collator=collator(tokenizer, end_to_end=attends_by_rows(model)),
        callbacks=[training_control],
    )
    trainer.training_control = training_control
    cast_adapters(trainer.model, device.adapter_dtype)
    if device.gradient_checkpointing:
        checkpoint_layers(trainer.model, config.training.checkpointed_layers)
    return trainer


def arguments(config: RunConfig, device: Device, output: str) -> SFTConfig:
    """Return the trainer's arguments. What decides when to log, evaluate and save is the TrainingControl, not they."""
    training = config.training
    return SFTConfig(
        output_dir=output,
        num_train_epochs=training.epochs,
        max_steps=training.max_steps or -1,
        per_device_train_batch_size=training.batch_size,
        per_device_eval_batch_size=training.batch_size,
        gradient_accumulation_steps=training.gradient_accumulation,
        learning_rate=training.learning_rate,
        lr_scheduler_type=training.scheduler,
        warmup_steps=training.warmup_ratio,  # below 1 it is a share of the steps
        max_grad_norm=training.max_grad_norm,
        max_length=training.max_length,
        dataset_kwargs={"skip_prepare_dataset": True},  # rows are cut, masked and packed: the preview's own
        optim=optimizer_named(device.optimizer).made_as or device.optimizer,
        bf16=str(device.compute_dtype) == "torch.bfloat16",
        fp16=str(device.compute_dtype) == "torch.float16",
        use_cpu=not device.is_cuda,
        activation_checkpointing=False,  # by `checkpoint_layers`: the trainer takes all layers, and after the probe
        seed=training.seed,
        data_seed=training.seed,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,  # else a NaN is logged as 0 and stepped with
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device.is_cuda,
        prediction_loss_only=True,
        trust_remote_code=False,
    )


class TrainingControl(TrainerCallback):
    """Decides after each step what is next: evaluate, save, pause, stop; from the config and the user's commands."""

    def __init__(
        self, config: RunConfig, context: JobContext, *, can_evaluate: bool = True, ranks: Ranks = ALONE
    ) -> None:
        self._config = config
        self._ranks = ranks
        self._context = context
        self._can_evaluate = can_evaluate
        self._saved_at = time.monotonic()
        self.ending: Pause | Stop | None = None
        self._best_loss = math.inf
        self._worse = 0

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Obey between two batches of a step only to a stop that saves nothing; ranks leave a step together."""
        if self._ranks.several:
            return control
        self._read_commands(control)
        if isinstance(self.ending, Stop) and not self.ending.save:
            control.should_training_stop = True
        return control

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Decide what follows a step."""
        self._context.raise_if_gone()
        self._read_commands(control)
        last = state.global_step >= state.max_steps
        is_due = _is_due(self._config.evaluation.every_steps, state.global_step) and not last
        control.should_evaluate |= is_due and self._can_evaluate
        control.should_save |= self._checkpoint_is_due(state.global_step) or last
        if self.ending is not None:
            control.should_training_stop = True
            control.should_save = isinstance(self.ending, Pause) or self.ending.save
        if self._ranks.several:
            self._do_as_first(control)
        if control.should_save:
            self._saved_at = time.monotonic()
        return control

    def _do_as_first(self, control: Any) -> None:
        """Have all ranks do what the first one decided: it alone knows the commands, and clocks differ."""
        wishes = (control.should_evaluate, control.should_save, control.should_training_stop, _number_of(self.ending))
        *flags, number = self._ranks.told_by_first(wishes)
        control.should_evaluate, control.should_save, control.should_training_stop = map(bool, flags)
        self.ending = _ENDINGS[number]

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: dict[str, float] | None = None, **kwargs: Any
    ) -> Any:
        """Make the best so far safe, so that it can be exported."""
        loss = (metrics or {}).get("eval_loss", math.nan)
        patience = self._config.evaluation.patience
        if loss < self._best_loss:
            self._best_loss, self._worse = loss, 0
            control.should_save |= state.global_step > 0
        elif not math.isnan(loss):
            self._worse += 1
        has_steps_left = self.ending is None and state.global_step < state.max_steps
        if patience and self._worse >= patience and has_steps_left:
            self._context.emit(StoppedEarly(step=state.global_step, evaluations=self._worse))
            control.should_save = control.should_training_stop = True
        return control

    def remember(self, evaluations: Iterable[Evaluated]) -> None:
        """Take the evaluations of earlier sessions into account, for the best and for stopping early."""
        for event in evaluations:
            if event.loss is not None and event.loss < self._best_loss:
                self._best_loss, self._worse = event.loss, 0
            else:
                self._worse += 1

    def _read_commands(self, control: Any) -> None:
        for command in self._context.commands():
            match command:
                case Pause() | Stop():
                    self.ending = command
                case SaveCheckpoint():
                    control.should_save = True
                case EvaluateNow() if not self._can_evaluate:
                    self._context.warn("no_held_out_rows", say("There are no held-out rows to measure in this run."))
                case EvaluateNow():
                    control.should_evaluate = True
                case _:
                    pass

    def _checkpoint_is_due(self, step: int) -> bool:
        checkpoint = self._config.checkpoint
        by_time = time.monotonic() - self._saved_at >= checkpoint.every_minutes * 60
        return by_time or _is_due(checkpoint.every_steps, step)


def expected_checkpoint_bytes(trainer: StudioTrainer) -> int:
    """Return about what a checkpoint weighs: the adapter, and the optimizer's state."""
    optimizer = optimizer_named(trainer.studio_device.optimizer)
    trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
    numbers, size = sum(item.numel() for item in trained), sum(int(item.nbytes) for item in trained)
    return size + optimizer.stored_bytes(numbers, size) + (1 << 20)


def _schedule(config: RunConfig, rows: Any, *, evaluates: bool) -> Schedule:
    lengths, training = row_lengths(rows), config.training
    steps = math.ceil(math.ceil(len(lengths) / training.batch_size) / training.gradient_accumulation)
    return Schedule(
        step_tokens=float(lengths.sum()) / max(1, steps),
        evaluates=evaluates,
        evaluation_steps=config.evaluation.every_steps,
        saving_steps=config.checkpoint.every_steps,
        saving_seconds=config.checkpoint.every_minutes * 60,
    )


def _number_of(ending: Pause | Stop | None) -> int:
    facts = [(type(known), getattr(known, "save", None)) for known in _ENDINGS]
    return facts.index((type(ending), getattr(ending, "save", None)))


def _is_due(every: int, step: int) -> bool:
    return bool(every) and step % every == 0


def _save(trainer: StudioTrainer, config: RunConfig, context: JobContext, made_from: Fingerprints) -> None:
    """Save, verify, tell, then let go of the oldest."""
    context.phase(Activity.SAVING)
    started = time.monotonic()
    step = trainer.state.global_step
    last = trainer.last_evaluation
    loss = last.loss if last is not None and last.step == step else None
    folder = CheckpointFolder(context.folder.checkpoints_path)
    saved = retried_when_full(
        lambda: folder.save(step, trainer.write_state, made_from, loss),
        lambda: expected_checkpoint_bytes(trainer),
        context,
    )
    seconds = time.monotonic() - started
    context.emit(
        CheckpointSaved(
            step=step, name=saved.path.name, size_bytes=saved.size_bytes, seconds=seconds, evaluation_loss=loss
        )
    )
    folder.rotate(config.checkpoint.keep)
    context.phase(Activity.TRAINING)
