"""trl's SFTTrainer, made to tell what it does, to save durably, and to stop before a NaN reaches the weights."""

import math
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import torch
from transformers import TrainerCallback, TrainerState

from qlora_studio.core.config.optimizer import optimizer_named
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.events import Evaluated, StepDone
from qlora_studio.core.run.memory_spill import SpillWatch, StepMemory
from qlora_studio.core.run.time_left import Schedule, TimeLeft
from qlora_studio.core.words import say
from qlora_studio.engine import fault_injection
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.data.collator import emptied, idle, joined, take_facts
from qlora_studio.engine.data.row_files import row_lengths
from qlora_studio.engine.expert_adapters import own_names
from qlora_studio.engine.memory.load_failure import told
from qlora_studio.engine.model.adapted import cast_adapters
from qlora_studio.engine.model.adapter import write_adapter
from qlora_studio.engine.model.device import Device, current_card, memory_of
from qlora_studio.engine.model.row_attention import attends_by_rows
from qlora_studio.engine.ranks.group import ALONE, Ranks
from qlora_studio.engine.training.energy import EnergyMeter
from qlora_studio.engine.training.held_out import HeldOutTrainer, finite
from qlora_studio.engine.training.optimizer_state import PagedBuffers, restore_paging, restore_rate
from qlora_studio.engine.training.pace import Pace
from qlora_studio.engine.training.phase_memory import PhaseMemory, phase_memory
from qlora_studio.engine.training.row_order import ByLength, EvenSteps, SortedSteps
from qlora_studio.engine.training.saved_state import require_state_of, state_failure
from qlora_studio.engine.training.trained_positions import trained_positions


class NonFiniteLoss(StudioError):
    """A loss or gradient was NaN or infinite; no optimizer step was taken."""


class StudioTrainer(HeldOutTrainer):
    """An SFTTrainer that tells facts.

    `save_checkpoint(trainer)` makes a checkpoint safe, `schedule` says what is done beside the steps; everything else
    is the plain trainer's own.
    """

    model: Any  # the plain trainer types both as perhaps None; they are while nothing trains, and nobody asks then
    optimizer: Any
    training_control: Any  # the TrainingControl among its callbacks; its module imports this one

    def __init__(
        self,
        *,
        reporter: Reporter,
        device: Device,
        save_checkpoint: Any,
        schedule: Schedule,
        ranks: Ranks = ALONE,
        **kwargs: Any,
    ) -> None:
        self.ranks = ranks
        self._loss_of_step: torch.Tensor | float = 0.0
        self.reporter = reporter
        self.studio_device = device
        self._durable_save = save_checkpoint
        self._pace = Pace()
        self._time_left = TimeLeft(schedule)
        self._rows: list[int] = []
        self._is_idle = False  # whether the batch is one that counts for nothing
        self._loss_is_finite: torch.Tensor | bool = True
        self.last_evaluation: Evaluated | None = None
        self.memory = phase_memory(reporter.emit)
        self.paged = PagedBuffers()
        self._spill = SpillWatch()
        self._energy = EnergyMeter(*([current_card().uuid] if device.is_cuda else []))
        super().__init__(**kwargs)
        self._end_to_end = attends_by_rows(self.model)
        longest = numpy.sort(row_lengths(self.train_dataset))[-self.args.per_device_train_batch_size :]
        self._most_tokens = int(longest.sum())  # of a batch, as the probe tries it and the estimate counts it
        self.add_callback(_OptimizerPhase(self.memory))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train; the clock of the first step starts here."""
        self._pace.restart()
        return super().train(*args, **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Make the optimizer where there is none; it takes over the paged memory of one that was before it."""
        is_new = self.optimizer is None
        super().create_optimizer(*args, **kwargs)
        if is_new:
            if optimizer_named(self.studio_device.optimizer).paged_from is None and hasattr(self.optimizer, "is_paged"):
                self.optimizer.is_paged = False  # transformers has no name for bitsandbytes' plain 32-bit AdamW
            self.paged.lend(self.optimizer)
        return self.optimizer

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """Return the batches of a step, as few as hold its rows in the memory of one, and their trained tokens.

        Where experts are kept evenly used they stay as they are: that is a mean of each batch.
        """
        batches, items = super().get_batch_samples(*args, **kwargs)
        own = self._own_share(batches) if self.ranks.several else batches
        if self._end_to_end and own and not self.aux_loss_enabled:
            own = joined(own, self._most_tokens)
        if self.ranks.shares_base:
            own = [batch for batch in own if batch["input_ids"].numel()]
            own += [idle(batches[0]) for _ in range(self.ranks.most(len(own)) - len(own))]
        return own + [emptied(batches[0]) for _ in range(len(batches) - len(own))], items

    def _own_share(self, batches: list[Any]) -> list[Any]:
        """Return what this rank trains of a step; what the others do is counted, as the step is told as a whole."""
        own = self.ranks.own(batches)
        for batch in batches:
            if not any(batch is mine for mine in own):
                rows, tokens = take_facts(dict(batch))
                self._rows += rows
                self._pace.add(tokens)
        return own

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Forward and backward of one batch; remembers its rows and whether its loss was finite."""
        rows, tokens = take_facts(inputs)
        if not inputs["input_ids"].numel():  # its rows were trained with another batch
            return torch.zeros((), device=self.args.device)
        self._rows += rows
        self._pace.add(tokens)
        step, batch_size = self.state.global_step + 1, self.args.per_device_train_batch_size
        fault_injection.before_step(step, batch_size)
        self.memory.enter("forward")
        self._is_idle = not tokens
        loss: torch.Tensor = super().training_step(model, inputs, *args, **kwargs)
        self._is_idle = False
        loss = fault_injection.after_loss(loss, step, batch_size)
        # Read once a step, not here: a read waits for the card.
        self._loss_is_finite = torch.isfinite(loss) & self._loss_is_finite
        self._loss_of_step = loss.detach() + self._loss_of_step
        return loss

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], *args: Any, num_items_in_batch: Any = None, **kwargs: Any
    ) -> Any:
        """Compute the loss of what is trained; what follows in a training step is the backward pass.

        It is trl's own, without the metrics that it reads back from the card after each batch and that nobody is told.
        """
        routing = {"output_router_logits": True} if self.aux_loss_enabled else {}
        with trained_positions(self.model, inputs) as scored:
            outputs = model(**scored, **routing, use_cache=False, fused_lm_head=True)
        tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (-outputs.log_probs).sum() / torch.as_tensor(tokens).clamp(min=1)
        if self.aux_loss_enabled:
            batches = 1 if num_items_in_batch is None else self.current_gradient_accumulation_steps
            loss = loss + self.router_aux_loss_coef * outputs.aux_loss / batches
        if self._is_idle:
            loss = loss * 0
        if self.memory.phase == "forward":
            self.memory.enter("backward")
        return loss

    def _clip_grad_norm(self, model: Any) -> Any:
        """Clip, and stop here rather than step where loss or gradients are not finite.

        A gradient scaler (fp16) finds and skips infinite gradients by itself.
        """
        if self.ranks.several:
            self._join_step()
        norm = super()._clip_grad_norm(model)
        finite = bool(self._loss_is_finite) and (self.accelerator.scaler is not None or math.isfinite(float(norm)))
        rows, self._rows, self._loss_is_finite = self._rows, [], True
        if not finite:
            raise _non_finite(self.state.global_step + 1, rows)
        return norm

    def _join_step(self) -> None:
        """Take the gradient, the loss, and whether that is finite, of all ranks together."""
        self._loss_of_step, infinite = self.ranks.totals(float(self._loss_of_step), float(not self._loss_is_finite))
        self._loss_is_finite = not infinite
        self.ranks.add_gradients(self.model.parameters())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Tell of an optimizer step."""
        if "loss" in logs and self.ranks.several:
            logs["loss"] = float(self._loss_of_step)
        self._loss_of_step = 0.0
        super().log(logs, start_time)
        if "loss" in logs:
            self._tell_step(logs)

    def _tell_step(self, logs: dict[str, float]) -> None:
        seconds, tokens = self._pace.take()
        self._time_left.step(tokens, seconds)
        self.reporter.emit(
            StepDone(
                step=self.state.global_step,
                total_steps=self.state.max_steps,
                epoch=float(self.state.epoch or 0.0),
                loss=finite(logs["loss"]),
                learning_rate=float(logs["learning_rate"]),
                gradient_norm=finite(logs.get("grad_norm")),
                tokens=tokens,
                tokens_per_second=tokens / seconds if seconds else 0.0,
                seconds=seconds,
                eta_seconds=self._time_left.seconds(self.state.global_step, self.state.max_steps),
                **memory_of(self.studio_device, self.memory.peak_bytes),
                energy_joules=self._joules(),
            )
        )
        self.memory.tell()
        self._look_for_spill(seconds / max(1, tokens))

    def _look_for_spill(self, seconds_per_token: float) -> None:
        if sys.platform != "win32" or not self.studio_device.is_cuda:  # elsewhere an allocation fails instead
            return
        free, total = torch.cuda.mem_get_info()
        step = StepMemory(seconds_per_token, torch.cuda.memory_reserved(), total, free)
        if words := self._spill.look(step):
            self.reporter.warn("memory_spill", words)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Make a checkpoint safe. The plain trainer's is neither atomic nor synced, and rotates by file times."""
        if not self.ranks.is_first:
            return
        started = time.monotonic()
        self.memory.enter("save")
        self.store_flos()
        self._durable_save(self)
        self._time_left.saving(self._pace.pause(started))

    def take_over(self, checkpoint: Path) -> None:
        """Stand where a checkpoint of the last step left off. (`train` would take one step more before it looks.)"""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load the adapter, and give it back its dtype.

        WORKAROUND peft 0.21: `load_adapter` casts bf16 adapters to fp32, so that a resumed run would train in another
        precision than an undisturbed one.
        """
        adapter = Path(resume_from_checkpoint) / "adapter_model.safetensors"
        with told(partial(state_failure, adapter)), own_names():
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        cast_adapters(self.model, self.studio_device.adapter_dtype)

    def begin_alike(self) -> None:
        """Have all ranks begin with the same adapters, and each with random numbers of its own, for dropout."""
        if self.ranks.several:
            self.ranks.copy_from_first(found for found in self.model.parameters() if found.requires_grad)
            self._draw_apart()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Go on with the random numbers of a checkpoint, which are the first rank's."""
        super()._load_rng_state(checkpoint)
        self._draw_apart()

    def _draw_apart(self) -> None:
        if not self.ranks.is_first:
            torch.manual_seed(self.args.seed + self.ranks.rank * 1_000_003 + self.state.global_step)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load them, and mend what that does not restore: paging, and a rate that was lowered since."""
        with told(partial(state_failure, Path(checkpoint or "") / "optimizer.pt")):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            trained = [(name, found) for name, found in self.model.named_parameters() if found.requires_grad]
            require_state_of(trained, self.optimizer, Path(checkpoint))
            restore_rate(self.optimizer, self.lr_scheduler, self.args.learning_rate)
            restore_paging(self.optimizer)

    def write_state(self, folder: Path) -> None:
        """Write everything that a resume needs: adapter, optimizer, schedule, scaler, random states, trainer state."""
        write_adapter(self.model, folder)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        self.state.save_to_json(str(folder / "trainer_state.json"))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Sort the rows of a step; where experts are kept evenly used not, as that is a mean of each batch."""
        if self.aux_loss_enabled:
            return super()._get_train_sampler(train_dataset)
        return (EvenSteps if self._end_to_end else SortedSteps)(train_dataset, self.args)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        return ByLength(eval_dataset)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        columns: Any = self._signature_columns  # typed as None, which it is until the line above
        if "row" not in columns:
            columns.append("row")


class _OptimizerPhase(TrainerCallback):
    """Counts memory to the optimizer's step from its beginning on."""

    def __init__(self, memory: PhaseMemory) -> None:
        self._memory = memory

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients are there, and clipped."""
        self._memory.enter("optimizer")


def _non_finite(step: int, rows: list[int]) -> NonFiniteLoss:
    named = ", ".join(str(row + 1) for row in sorted(set(rows))[:20])
    return NonFiniteLoss(
        say("At step {step} the loss became infinite or not a number. No optimizer step was taken with it.", step=step),
        kind=FailureKind.NON_FINITE_LOSS,
        advice=say(
            "Resume from the last safe checkpoint with a lower learning rate (half is a good "
            "start), and look at these rows of the dataset: {named}.",
            named=named or say("not known"),
        ),
    )
