"""`estimate` and `fit`: what a run takes of a graphics card, and what would make it fit."""

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from qlora_studio.cli.console import Console
from qlora_studio.cli.job_session import run_job
from qlora_studio.cli.run_source import add_run_source, run_config
from qlora_studio.core.config.optimizer import optimizer_choices
from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.config.run_config_text import to_toml
from qlora_studio.core.config.setting import either
from qlora_studio.core.errors import ExitCode, FailureKind, InvalidRunConfig, Problem, StudioError
from qlora_studio.core.memory.estimate import Estimate, estimate_from_report
from qlora_studio.core.memory.estimator import estimate, with_context
from qlora_studio.core.memory.fastest import Situation, fastest_fit
from qlora_studio.core.memory.fit import Fit, FitVerdict, Knob, judge, largest, memory_savings
from qlora_studio.core.memory.gpu_catalogue import GPUS, find_gpu
from qlora_studio.core.memory.largest_model import largest_model
from qlora_studio.core.memory.probe_record import ProbeRecord, newest_for
from qlora_studio.core.memory.rate import ERROR_SHARE
from qlora_studio.core.memory.reading import Reading, readings
from qlora_studio.core.memory.sharding import with_sharding
from qlora_studio.core.memory.spare import estimate_with_spare
from qlora_studio.core.memory.step_rate import StepRate, rate_note, step_rate
from qlora_studio.core.model.shape import ModelShape
from qlora_studio.core.quantity import bytes_text
from qlora_studio.core.run.job import EstimateJob
from qlora_studio.core.run.ranks import sharing
from qlora_studio.core.run.reports import EstimateReported
from qlora_studio.jobs.card_choice import count_together
from qlora_studio.jobs.gpu_monitor import gpu_cards, sample_gpu
from qlora_studio.storage.durable import write_atomically
from qlora_studio.storage.models.catalogue import find_in_catalogue, model_catalogue
from qlora_studio.storage.models.location import locate_model, model_facts
from qlora_studio.storage.models.quantized_base import quantized_words
from qlora_studio.storage.runs.parent_adapter import with_parent
from qlora_studio.storage.runs.probe_records import probe_records

_FLAGS = {
    "batch": ("training.batch_size", "rows on the card at once"),
    "accumulation": ("training.gradient_accumulation", "batches per optimizer step"),
    "length": ("training.max_length", "longest row, in tokens"),
    "rank": ("lora.rank", "LoRA rank"),
    "optimizer": ("training.optimizer", either(optimizer_choices())),
    "quantization": ("quantization.method", "nf4, fp4 or none"),
    "checkpointing": ("training.gradient_checkpointing", "auto, on or off"),
}


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `estimate` and `fit`."""
    estimating = commands.add_parser(
        "estimate",
        parents=[shared],
        help="how much graphics memory a run takes",
        description="Say how much graphics memory a run takes, before it is started. Nothing is loaded.",
    )
    _add_options(estimating)
    estimating.add_argument(
        "--level",
        choices=["instant", "traced"],
        default="instant",
        help="by formula at once, or by tracing the real code for some seconds (default: instant)",
    )
    estimating.add_argument("--largest", action="store_true", help="say which models of the catalogue fit the card")
    estimating.set_defaults(run=estimate_run)
    fitting = commands.add_parser(
        "fit",
        parents=[shared],
        help="change a run so that it fits a card, and is as fast as it gets there",
        description="Propose the fastest settings that fit a card. The effective batch stays what it is.",
    )
    _add_options(fitting)
    fitting.add_argument("--write", metavar="FILE", help="write the settings that fit as a run file")
    fitting.set_defaults(run=fit_run)


def estimate_run(arguments: argparse.Namespace, console: Console) -> int:
    """Print the estimate and, with a card, whether it fits."""
    if arguments.largest:
        return _largest_run(arguments, console)
    config, shape = _config_and_shape(arguments)
    card = _card(arguments.gpu, config)
    probe = None if arguments.gpu else _probe_here(config)
    gpu, rate = find_gpu(card[0]) if card else None, None
    if arguments.level == "traced":
        _require_one_card(config)
        result = _traced(config, arguments, console)
        result = with_context(result, probe.context_bytes) if probe else result
    else:
        free = card[1] if card else None
        resolved, result = estimate_with_spare(
            config,
            shape,
            free,
            lambda tried: estimate(tried, shape, gpu=gpu, probe=probe),
            _count(arguments, config),
        )
        rate = step_rate(resolved, shape, gpu, cards=_count(arguments, config))
    fit = judge(result, card[1]) if card else None
    fits = fit is not None and fit.verdict is not FitVerdict.NO
    rate = rate if fits else None
    quantized = _quantized(config)
    later = readings(config, shape, gpu=gpu)
    facts = {"gpu": _card_json(card, fit), "quantized": quantized, "afterwards": _later_json(later)}
    console.report({**result.to_report().model_dump(), **facts, "rate": _rate_json(rate)})
    console.result(*_estimate_lines(result))
    if fits and arguments.level != "traced":
        console.result(f"  {rate_note(rate, config, shape, gpu)}")
    for reading in later:
        console.result(f"  {reading.text}")
    if quantized:
        console.result(quantized)
    if card and fit:
        console.result(_fit_text(card[0], fit))
        if fit.verdict is not FitVerdict.FITS:
            for saving in memory_savings(config, shape)[:3]:
                console.result(f"  {saving.text}")
    return ExitCode.OK


def fit_run(arguments: argparse.Namespace, console: Console) -> int:
    """Print what to change; exit code 32 where nothing makes it fit."""
    config, shape = _config_and_shape(arguments)
    card = _card_or_refusal(arguments, config)
    gpu, probe = find_gpu(card[0]), None if arguments.gpu else _probe_here(config)
    count = _count(arguments, config)

    def estimated(tried: RunConfig) -> Estimate:
        return estimate(tried, shape, gpu=gpu, probe=probe)

    config = with_sharding(config, shape, card[1], count, estimated)
    found = fastest_fit(config, Situation(shape, gpu, card[1], estimated, cards=count))
    proposal = found.proposal
    knobs: tuple[Knob, ...] = ("batch", "length") if config.lora.start_from else ("batch", "length", "rank")
    most = {knob: largest(knob, proposal.config, shape, card[1]) for knob in knobs}
    console.report(
        {
            "changes": proposal.changes,
            "estimate": proposal.estimate.to_report().model_dump(),
            "gpu": _card_json(card, proposal.fit),
            "largest": most,
            "rate": _rate_json(found.rate),
            "gain": found.gain,
        }
    )
    for name, value in proposal.changes.items():
        console.result(f"{name} = {value}")
    console.result(_fit_text(card[0], proposal.fit))
    if proposal.fit.verdict is FitVerdict.FITS:
        console.result(*filter(None, [found.words]), f"  {rate_note(found.rate, proposal.config, shape, gpu)}")
    console.result(f"Largest that fits, one at a time: {', '.join(f'{knob} {most[knob]:,}' for knob in knobs)}")
    if arguments.write:
        with console.interruption.held():
            write_atomically(Path(arguments.write), to_toml(proposal.config).encode())
            console.if_interrupted(f"{arguments.write} is written.")
    return ExitCode.OK if proposal.fit.verdict is FitVerdict.FITS else ExitCode.DOES_NOT_FIT


def _largest_run(arguments: argparse.Namespace, console: Console) -> int:
    """Print up to which size models fit the card, with the same rows and settings."""
    config = _config(arguments)
    name, free_bytes = _card_or_refusal(arguments, config)
    models = [(model.id, model.shape) for model in model_catalogue()]
    rank = config.lora.rank if arguments.rank or arguments.run_file or arguments.preset else None
    found = largest_model(models, config, free_bytes, gpu=find_gpu(name), rank=rank)
    console.report({"gpu": name, "free_bytes": free_bytes, **dataclasses.asdict(found)})
    rows = f"{config.training.batch_size} x {config.training.max_length:,} tokens"
    console.result(f"{name}: dense models up to {found.billions}B fit, with {rows} at a time")
    console.result(f"  the largest dense one of the catalogue is {found.dense or 'none'}")
    console.result(f"  the largest mixture of experts is {found.mixture or 'none'}")
    return ExitCode.OK


def _card_or_refusal(arguments: argparse.Namespace, config: RunConfig) -> tuple[str, int]:
    card = _card(arguments.gpu, config)
    if card is None:
        raise StudioError(
            "There is no NVIDIA card here to fit to.",
            kind=FailureKind.DOES_NOT_FIT,
            advice='Name one, such as --gpu "RTX 4090".',
        )
    return card


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_run_source(parser)
    for flag, (path, words) in _FLAGS.items():
        parser.add_argument(f"--{flag}", metavar=flag[0].upper(), help=f"{words} ({path})")
    parser.add_argument("--gpu", metavar="NAME", help="judge for this card, such as 'RTX 4090' (default: the one here)")


def _config(arguments: argparse.Namespace) -> RunConfig:
    values = {path: getattr(arguments, flag) for flag, (path, _) in _FLAGS.items()}
    arguments.overrides = [f"{path}={value}" for path, value in values.items() if value] + arguments.overrides
    return run_config(arguments)


def _config_and_shape(arguments: argparse.Namespace) -> tuple[RunConfig, ModelShape]:
    config = _config(arguments)
    if not config.model.source:
        raise InvalidRunConfig((Problem("model.source", "Choose a base model with --model."),))
    return with_parent(config), _shape(config.model.source, config.model.revision)


def _shape(source: str, revision: str) -> ModelShape:
    """Return how a model is built, by its files or, where it is not downloaded, by the catalogue."""
    location = locate_model(source, revision)
    if location.path is None and (known := find_in_catalogue(source)):
        return known.shape
    shape = model_facts(location).shape
    if shape is None:
        raise StudioError(f"The files of {source} do not say how the model is built.", kind=FailureKind.MODEL_REFUSED)
    return shape


def _quantized(config: RunConfig) -> str:
    """Return what to know of a base that is stored quantized; nothing of any other."""
    location = locate_model(config.model.source, config.model.revision)
    return "" if location.kind == "gguf" else quantized_words(location.path, location.source)


def _require_one_card(config: RunConfig) -> None:
    if sharing(config) > 1:
        raise StudioError(
            "A base that cards share out is not traced.",
            kind=FailureKind.INVALID_CONFIG,
            advice="Ask for the estimate by formula (--level instant), or set hardware.sharding=off.",
        )


def _traced(config: RunConfig, arguments: argparse.Namespace, console: Console) -> Estimate:
    state = run_job(EstimateJob(config=config, gpu=arguments.gpu or ""), console)
    found = [item.report for item in state.reports if isinstance(item, EstimateReported)]
    if not found:
        raise StudioError("The worker told no estimate.", kind=FailureKind.ERROR)
    return estimate_from_report(found[-1])


def _probe_here(config: RunConfig) -> ProbeRecord | None:
    """Return what a real step taught of the card that a run would take here."""
    sample = sample_gpu(config.hardware.gpus)
    return newest_for(probe_records(), sample.uuid, sample.driver) if sample.available else None


def _count(arguments: argparse.Namespace, config: RunConfig) -> int:
    """Return how many cards would train together: those here, or as many as are wished for of one that is named."""
    return count_together(config.hardware.gpus, () if arguments.gpu else gpu_cards(), os.environ)


def _card(name: str | None, config: RunConfig) -> tuple[str, int] | None:
    """Return the name and the free bytes of a card of the catalogue, or of the one here; None where there is none."""
    if name:
        spec = find_gpu(name)
        if spec is None:
            names = ", ".join(gpu.name for gpu in GPUS)
            raise StudioError(
                f"No single card is called {name!r}.", kind=FailureKind.INVALID_CONFIG, advice=f"Known are: {names}."
            )
        return spec.name, spec.free_bytes
    sample = sample_gpu(config.hardware.gpus)
    return (sample.name, sample.free_bytes) if sample.free_bytes is not None else None


def _card_json(card: tuple[str, int] | None, fit: Fit | None) -> dict[str, Any] | None:
    if card is None or fit is None:
        return None
    return {
        "name": card[0],
        "free_bytes": fit.free_bytes,
        "needed_bytes": fit.needed_bytes,
        "spare_bytes": fit.spare_bytes,
        "verdict": str(fit.verdict),
    }


def _rate_json(rate: StepRate | None) -> dict[str, Any] | None:
    if rate is None:
        return None
    facts = {"tokens_per_second": rate.tokens_per_second, "step_seconds": rate.seconds, "error_share": ERROR_SHARE}
    together = {"cards": rate.cards, "gathering_seconds": rate.gathering}
    return facts | (together if rate.cards > 1 else {})


def _later_json(later: tuple[Reading, ...]) -> dict[str, Any]:
    return {item.key: {"whole_bytes": item.whole_bytes, "streamed_bytes": item.streamed_bytes} for item in later}


def _estimate_lines(result: Estimate) -> list[str]:
    sign = "≈ " if result.level == "instant" else ""
    lines = [f"{sign}{bytes_text(result.total_bytes)} (± {result.error_share:.0%}), the most while {result.peak_phase}"]
    lines += [f"  {part.label:14} {bytes_text(part.bytes):>10}" for part in result.components]
    return [*lines, *(f"  {note}" for note in result.notes)]


def _fit_text(name: str, fit: Fit) -> str:
    words = {FitVerdict.FITS: "fits", FitVerdict.TIGHT: "is tight", FitVerdict.NO: "does not fit"}[fit.verdict]
    spare = f"{bytes_text(abs(fit.spare_bytes))} {'to spare' if fit.spare_bytes >= 0 else 'missing'}"
    return f"{name}: {words}, {bytes_text(fit.free_bytes)} free, {spare}"
