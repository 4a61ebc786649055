"""The training job, from top to bottom: base, data, adapters, training, adapter saved, merged and exported."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, set_seed

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.export.disk_need import run_needs
from qlora_studio.core.model.shape import shape_from_config
from qlora_studio.core.run import machines
from qlora_studio.core.run.activity import Activity
from qlora_studio.core.run.commands import Pause, Stop
from qlora_studio.core.run.events import (
    AdapterSaved,
    Evaluated,
    Finished,
    ModelLoaded,
    Paused,
    Resumed,
    SampleGenerated,
    TrainingStarted,
)
from qlora_studio.core.run.fingerprint import Fingerprint, Fingerprints
from qlora_studio.core.run.job import TrainJob
from qlora_studio.core.run.ranks import require_shares
from qlora_studio.core.run.recovery import batch_plan, with_plan
from qlora_studio.core.run.reports import TrainingFacts
from qlora_studio.core.words import say
from qlora_studio.engine.context import JobContext, JobStopped, Reporter
from qlora_studio.engine.data.plan import prompting_of
from qlora_studio.engine.data.prepared import PreparedData, prepare_datasets
from qlora_studio.engine.export.rehearsal import require_formats
from qlora_studio.engine.merge.text_model import text_class_name
from qlora_studio.engine.model import adapted as adapted_model
from qlora_studio.engine.model.adapter import save_final_adapter
from qlora_studio.engine.model.base import base_folder, tokenizer_of
from qlora_studio.engine.model.card_check import require_usable_card
from qlora_studio.engine.model.device import Device, choose_device, with_checkpointing
from qlora_studio.engine.model.generation import answer
from qlora_studio.engine.model.original import with_stored_quantization
from qlora_studio.engine.model.rehearsal import require_mergeable
from qlora_studio.engine.ranks.group import Ranks
from qlora_studio.engine.ranks.machines import OtherMachines
from qlora_studio.engine.ranks.order import GoingOn
from qlora_studio.engine.ranks.processes import RankProcesses, cards_of_ranks
from qlora_studio.engine.templates.sandbox import TemplateRefusal
from qlora_studio.engine.training.disk_space import keep_reserve, retried_when_full
from qlora_studio.engine.training.first_batch import refused_where_it_fails, require_trainable
from qlora_studio.engine.training.memory_space import require_memory, with_sharding, with_spare_memory_used
from qlora_studio.engine.training.pack_isolation import lay_end_to_end, require_isolation
from qlora_studio.engine.training.parent import continued, continued_folder, parent_adapter, taken_over
from qlora_studio.engine.training.probe import measure_card
from qlora_studio.engine.training.resumption import newest_safe_checkpoint, with_lowered_rate
from qlora_studio.engine.training.saved_state import require_sound_state
from qlora_studio.engine.training.setup import build_trainer, expected_checkpoint_bytes
from qlora_studio.engine.training.trainer import StudioTrainer
from qlora_studio.storage.drive_space import Writing, require_drives
from qlora_studio.storage.models.folder import read_config
from qlora_studio.storage.models.quantized_base import refuse_quantized
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.fingerprint import fingerprint_folder
from qlora_studio.storage.runs.run_folder import RunFolder

_NO_SAMPLES = say(
    "Sample prompts are not answered in this run: its cards share the base out, and would gather all of it for a word."
)


def run(job: TrainJob, context: JobContext) -> Finished | Paused:
    """Train the run of the context's folder; go on from its newest safe checkpoint where there is one."""
    cards, config = cards_of_ranks(), context.folder.config()
    with _other_machines(context) as there:
        ranks = max(1, len(cards)) + there.ranks
        require_shares(with_plan(config, batch_plan(config, context.folder.state())), ranks)
        with RankProcesses(cards, context.folder.path / "ranks", there) as others:
            trained = _trained(context, others)
    return _end(trained, context)


@contextmanager
def _other_machines(context: JobContext) -> Iterator[OtherMachines]:
    """Wait until all machines are there that train this run, where it is trained by several."""
    told = os.environ.get(machines.VARIABLE, "")
    with OtherMachines(machines.Machines.model_validate_json(told) if told else None) as there:
        if told:
            context.phase(Activity.WAITING_FOR_MACHINES)
            there.gather(context.raise_if_stopped)
        yield there


@dataclass(frozen=True)
class _Trained:
    """What is left of training to make an end of."""

    trainer: StudioTrainer
    base: Path
    tokenizer: PreTrainedTokenizerBase
    made_from: Fingerprints
    config: RunConfig


def _trained(context: JobContext, others: RankProcesses) -> _Trained:
    config, initial_commands = taken_over(context), context.initial_commands()
    require_usable_card(config)
    base = base_folder(config.model.source, config.model.revision, context)
    refuse_quantized(base, config.model.source, config.quantization.original, merges=config.export.merge)
    config = with_stored_quantization(config, base)
    tokenizer = tokenizer_of(base)
    resumes = bool(CheckpointFolder(context.folder.checkpoints_path).all())
    if not resumes:
        require_mergeable(base, config, context, continued_folder(config))
        require_formats(base, config)
    device = choose_device(config, context)
    require_memory(base, config, device, max(1, len(cards_of_ranks())))
    data = _prepare_data(config, tokenizer, context)
    config = with_plan(config, batch_plan(config, context.folder.state()))
    _require_space(config, base, context.folder)
    context.phase(Activity.CHECKING_BASE)
    data_fingerprint = Fingerprint.model_validate(data.fingerprint)
    made_from = Fingerprints(base=fingerprint_folder(base, anew=resumes), data=data_fingerprint)
    checkpoint = newest_safe_checkpoint(context, made_from, initial_commands)
    if checkpoint:
        require_sound_state(checkpoint.path, checkpoint.step)
    config = with_lowered_rate(config, checkpoint.step if checkpoint else 0, initial_commands, context)
    start = checkpoint.path if checkpoint else parent_adapter(config, made_from.base)
    resumed = {"checkpoint": checkpoint.path, "step": checkpoint.step} if checkpoint else {}
    going_on = GoingOn.model_validate({"start": start, **resumed})
    config = with_sharding(base, config, device, data.training, cards_of_ranks(), others.ranks.count)
    others.hand(config, base, context.folder, going_on, made_from)
    config = with_spare_memory_used(base, config, device, data.training)
    device = with_checkpointing(config, device)
    meet = partial(others.meet, str(device.compute_dtype), on_card=device.is_cuda)
    trainer = load_trainer(base, tokenizer, data, config, device, context, made_from, going_on, others.ranks, meet)
    keep_reserve(context.folder.path)
    if others.ranks.shares_base and config.evaluation.prompts:
        context.warn("no_samples", _NO_SAMPLES)
    elif not others.ranks.shares_base:
        trainer.add_callback(_Samples(config, tokenizer, trainer, context))
    train(trainer, going_on, config, base, context, meet)
    return _Trained(trainer, base, tokenizer, made_from, config)


def _prepare_data(config: RunConfig, tokenizer: PreTrainedTokenizerBase, context: JobContext) -> PreparedData:
    context.phase(Activity.PREPARING_DATA)
    data = prepare_datasets(config, tokenizer, context.folder, context)
    context.emit(data.facts)
    context.raise_if_stopped()
    return data


def _require_space(config: RunConfig, base: Path, run: RunFolder) -> None:
    """Raise StudioError where this run's drive has no room for what it will write; what is there already counts."""
    folder = run.path
    written = sum(path.stat().st_size for path in run.checkpoints_path.rglob("*") if path.is_file())
    needs = run_needs(config, shape_from_config(read_config(base)), on_card=torch.cuda.is_available())
    writings = [Writing(folder, need.what, need.size) for need in needs if need.place == "run"]
    require_drives([*writings, Writing(folder, "already there", -written)], "This run")


def load_trainer(
    base: Path,
    tokenizer: PreTrainedTokenizerBase,
    data: PreparedData,
    config: RunConfig,
    device: Device,
    context: JobContext,
    made_from: Fingerprints,
    going_on: GoingOn,
    ranks: Ranks,
    meet: Callable[[], None],
) -> StudioTrainer:
    """Load the base with fresh adapters; of a run that goes on from an adapter, with that.

    A run that is resumed lays its rows as it did before. Ranks that share the base out `meet` first: from then on none
    of them goes through it without the others.
    """
    start = going_on.start
    if ranks.several and config.hardware.sharding == "on":
        ranks.share_base()
    context.phase(Activity.LOADING_MODEL)
    if config.lora.dropout != config.lora.used_dropout:
        context.warn("no_dropout", say("Adapters on routed experts cannot have dropout: this run is trained without."))
    set_seed(config.training.seed)
    model = adapted_model.load_base(base, config, device, start, context, ranks.share)
    device = adapted_model.with_possible_checkpointing(model, device, context)
    if config.lora.start_from and start is not None:
        model = continued(model, start, config)
    else:
        model = adapted_model.attach_adapters(model, config)
    if ranks.shares_base:
        from qlora_studio.engine.ranks.sharding import gather_by_layers

        meet()
        gather_by_layers(model, device.name, ranks.share)
    earlier = context.folder.state().model if going_on.checkpoint else None
    end_to_end = (earlier is None or earlier.rows_end_to_end) and lay_end_to_end(model)
    if config.training.packing and not end_to_end and earlier is None:
        with refused_where_it_fails(model):
            require_isolation(model)
    trainer = build_trainer(
        model=model,
        tokenizer=tokenizer,
        training=data.training,
        evaluation=data.evaluation,
        config=config,
        device=device,
        context=context,
        made_from=made_from,
        ranks=ranks,
    )
    loaded = adapted_model.facts_of(trainer.model, config, device, text_class_name(base))
    context.emit(_with_all_cards(loaded) if device.is_cuda and ranks.several else loaded)
    context.raise_if_stopped()
    return trainer


def _with_all_cards(loaded: ModelLoaded) -> ModelLoaded:
    cards = cards_of_ranks()
    return loaded.model_copy(update={"cards": cards, "device": f"{loaded.device} and {len(cards) - 1} more"})


def train(
    trainer: StudioTrainer,
    going_on: GoingOn,
    config: RunConfig,
    base: Path,
    context: JobContext,
    meet: Callable[[], None],
) -> None:
    """Measure, train, measure. A resumed run was measured before it began.

    `meet` is called once this rank is ready for what the ranks do together, which is everything after it.
    """
    checkpoint, step = going_on.checkpoint, going_on.step
    if checkpoint:
        context.emit(Resumed(step=step, checkpoint=checkpoint.name))
        earlier = [event for event in context.folder.events() if isinstance(event, Evaluated) and event.step <= step]
        trainer.training_control.remember(earlier)
    require_trainable(trainer)
    if torch.cuda.is_available():
        measure_card(trainer, base, config, context)
    meet()
    trainer.begin_alike()
    if not checkpoint and trainer.eval_dataset is not None:
        trainer.evaluate()
    total = _total_steps(trainer, config)
    context.emit(TrainingStarted(step=step, total_steps=total))
    context.phase(Activity.TRAINING)
    if checkpoint and step >= total:  # it broke off between its last step and its end
        trainer.take_over(checkpoint)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    ending = trainer.training_control.ending
    if ending is None or (isinstance(ending, Stop) and ending.save):
        _measure_at_end(trainer)


def _total_steps(trainer: StudioTrainer, config: RunConfig) -> int:
    if config.training.max_steps:
        return config.training.max_steps
    per_epoch = math.ceil(len(trainer.get_train_dataloader()) / config.training.gradient_accumulation)
    return math.ceil(per_epoch * config.training.epochs)


def _measure_at_end(trainer: StudioTrainer) -> None:
    step, last = trainer.state.global_step, trainer.last_evaluation
    if trainer.eval_dataset is not None and (last is None or last.step != step):
        trainer.evaluate()


def _end(trained: _Trained, context: JobContext) -> Finished | Paused:
    """Keep what was learned, as the user asked: paused, stopped with or without saving, or completed and exported."""
    trainer, config = trained.trainer, trained.config
    ending = trainer.training_control.ending
    step = trainer.state.global_step
    if isinstance(ending, Pause):
        return Paused(step=step, checkpoint=f"checkpoint-{step}")
    if ending is not None and not ending.save:
        raise JobStopped
    context.phase(Activity.SAVING)
    retried_when_full(
        lambda: save_final_adapter(
            trainer.model, trained.tokenizer, trained.base, trained.made_from.base, config, context.folder
        ),
        lambda: expected_checkpoint_bytes(trainer),
        context,
    )
    context.emit(AdapterSaved(path=str(context.folder.adapter_path), step=step))
    status: Literal["stopped", "completed"] = "stopped" if ending else "completed"
    result = TrainingFacts(steps=step, adapter_dir=str(context.folder.adapter_path), status=status)
    if ending is None and config.export.merge:
        result = result.model_copy(update=_export(trainer, config, context))
    return Finished(status=status, facts=result)


def _export(trainer: StudioTrainer, config: RunConfig, context: JobContext) -> dict[str, Any]:
    """Free the model, then merge and export from the files, as the Export page would."""
    from qlora_studio.engine.export.export import export_run
    from qlora_studio.engine.export.job import verify_exports

    trainer.model = trainer.optimizer = trainer.lr_scheduler = None
    trainer.model_wrapped = None  # type: ignore[assignment]  # nothing trains any more
    trainer.accelerator.free_memory()
    adapted_model.release_memory()
    context.phase(Activity.EXPORTING)
    exports = export_run(
        context.folder,
        formats=config.export.formats,
        importance_matrix=config.export.importance_matrix,
        channel=context,
    )
    verified, _ = verify_exports(context.folder, exports, context)
    return {"exports": {event.format: event.path for event in exports}, "verified": verified}


class _Samples(TrainerCallback):
    """Answers the sample prompts after each evaluation."""

    def __init__(
        self, config: RunConfig, tokenizer: PreTrainedTokenizerBase, trainer: StudioTrainer, context: JobContext
    ) -> None:
        self._prompts = config.evaluation.prompts
        self._prompting = prompting_of(config, context.folder)
        self._tokenizer = tokenizer
        self._trainer = trainer
        self._reporter: Reporter = context

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Answer each prompt greedily."""
        for prompt in self._prompts:
            messages = [{"role": "user", "content": prompt}]
            try:
                text = answer(
                    self._trainer.model, self._tokenizer, messages, prompting=self._prompting, max_new_tokens=96
                )
            except TemplateRefusal as error:
                self._reporter.warn("sample", say("A sample prompt was left out. {message}", message=error.message))
                continue
            self._reporter.emit(SampleGenerated(step=state.global_step, prompt=prompt, answer=text))
