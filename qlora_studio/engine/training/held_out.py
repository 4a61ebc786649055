"""A trainer's held-out loss: the exact mean over all trained tokens, told, and skipped where memory lacks for it."""

import math
import time
from typing import Any

import torch
from trl import SFTTrainer

from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.events import Evaluated
from qlora_studio.core.run.time_left import TimeLeft
from qlora_studio.core.words import say
from qlora_studio.engine import fault_injection
from qlora_studio.engine.context import Reporter
from qlora_studio.engine.data.collator import idle, take_facts
from qlora_studio.engine.faults import is_out_of_memory
from qlora_studio.engine.ranks.group import Ranks
from qlora_studio.engine.training.energy import EnergyMeter
from qlora_studio.engine.training.pace import Pace
from qlora_studio.engine.training.phase_memory import PhaseMemory


class HeldOutTrainer(SFTTrainer):
    """An SFTTrainer whose evaluation is ours; who makes one sets what is named here."""

    model: Any  # the plain trainer types it as perhaps None
    reporter: Reporter
    ranks: Ranks
    memory: PhaseMemory
    last_evaluation: Evaluated | None
    _pace: Pace
    _time_left: TimeLeft
    _energy: EnergyMeter

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Return and tell the held-out loss, the exact mean over all trained tokens.

        (The plain trainer averages batch means, so that a short batch counts as much as a long one.) Where the card has
        no memory for it, the evaluation is skipped, told, and training goes on.
        """
        started = time.monotonic()
        self.reporter.phase(Activity.EVALUATING)
        self.memory.enter("evaluation")
        metrics = self._metrics_or_none(started)
        if metrics is None:  # only now is nothing of the failed batch held any more
            torch.cuda.empty_cache()
            self.reporter.warn(
                "evaluation_skipped", say("An evaluation found no memory and was skipped; training goes on.")
            )
            metrics = {"eval_loss": math.nan}
        self.reporter.phase(Activity.TRAINING)
        self._time_left.evaluation(self._pace.pause(started))
        return metrics

    def _evaluated(self, loss: float, started: float) -> dict[str, float]:
        event = Evaluated(
            step=self.state.global_step,
            loss=finite(loss),
            perplexity=finite(math.exp(min(loss, 700.0))),
            seconds=time.monotonic() - started,
            energy_joules=self._joules(),
        )
        self.last_evaluation = event
        self.reporter.emit(event)
        metrics = {"eval_loss": loss}
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _metrics_or_none(self, started: float) -> dict[str, float] | None:
        try:
            with torch.random.fork_rng():  # an evaluation more or less must not change what is trained
                loss = self._held_out_loss()
            return None if loss is None else self._evaluated(loss, started)
        except (RuntimeError, MemoryError) as error:
            if self.ranks.shares_base or not is_out_of_memory(error):  # the others wait within a layer for this one
                raise
            return None

    def _held_out_loss(self) -> float | None:
        """Return the mean over the rows of all ranks; None where another one found no memory for its own."""
        sums = None
        try:
            fault_injection.before_evaluation(self.state.global_step, self.args.per_device_train_batch_size)
            sums = self._held_out_sums()
        finally:  # the others wait for this rank's word, also where it is that there was no memory
            if sums or not self.ranks.shares_base:
                total, tokens, without = self.ranks.totals(*(sums or (0.0, 0)), sums is None)
        if without:
            return None
        return total / tokens if tokens else math.nan

    def _held_out_sums(self) -> tuple[float, int]:
        """Return the sum of all losses over the held-out rows and how many they are; of several ranks, of own rows."""
        was_training, balances_experts = self.model.training, self.aux_loss_enabled
        self.model.eval()
        self.aux_loss_enabled = False  # what keeps experts evenly used is no loss of the tokens
        total, tokens = 0.0, 0
        batches = self.get_eval_dataloader()
        try:
            for index, batch in enumerate(batches):
                if index % self.ranks.count != self.ranks.rank:
                    continue
                take_facts(batch)
                inputs = self._prepare_inputs(batch)
                total += float(self.loss_without_learning(inputs))
                tokens += int((inputs["labels"][:, 1:] != -100).sum())
                self.reporter.progress("evaluate", index + 1, len(batches), "batches")
            if self.ranks.shares_base and self.ranks.rank >= len(batches) % self.ranks.count > 0:
                batch = idle(batch)
                take_facts(batch)
                self.loss_without_learning(self._prepare_inputs(batch))
        finally:
            self.aux_loss_enabled = balances_experts
            self.model.train(was_training)
        return total, tokens

    def loss_without_learning(self, inputs: dict[str, Any]) -> Any:
        """Return the sum of a batch's losses, in the precision of training: also before that has begun."""
        with torch.no_grad(), self.accelerator.autocast(), self.compute_loss_context_manager():
            return self.compute_loss(self.model, inputs, num_items_in_batch=1)

    def _joules(self) -> float | None:
        """Return what the cards of all ranks took until now; None where one of them does not tell."""
        own = self._energy.joules()
        joules, silent = self.ranks.totals(own or 0.0, float(own is None))
        return None if silent else joules


def finite(value: float | None) -> float | None:
    """Return a number, or None in place of one that is none."""
    return float(value) if value is not None and math.isfinite(value) else None
