"""Estimated against measured by phase: what the Run page and the panel say of a run on a card."""

from pathlib import Path

from PySide6.QtWidgets import QApplication

from qlora_studio.core.config.run_config import RunConfig
from qlora_studio.core.memory.estimator import estimate
from qlora_studio.core.quantity import GIB, MIB
from qlora_studio.core.run import events as ev
from qlora_studio.core.run.reports import RunEstimateReported
from qlora_studio.core.run.run_state import RunState, reduce
from qlora_studio.storage.runs.message_log import MessageLogWriter
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.ui.memory.panel import GpuPanel
from qlora_studio.ui.run.cards import MemoryCard
from qlora_studio.ui.state.memory_phases import memory_text, phase_lines
from tests.core.memory.qlora_article import article_shapes

ESTIMATE = estimate(RunConfig(), article_shapes()["7B"])
PEAKS = {phase.key: phase.allocated_bytes for phase in ESTIMATE.phases}


def _run(folder: Path, *measured: tuple[str, int]) -> RunState:
    """Return the state of a run whose events went through its log."""
    told: list[ev.Event] = [
        RunEstimateReported(report=ESTIMATE.to_report()),
        ev.Probed(
            rows=1, tokens=512, allocated_bytes=5 * GIB, reserved_bytes=6 * GIB, seconds=1.0, context_bytes=512 * MIB
        ),
        *(ev.MemoryMeasured(phase=phase, allocated_bytes=size, reserved_bytes=size) for phase, size in measured),
    ]
    run = RunFolder(folder)
    with MessageLogWriter(run.events_path) as log:
        for event in told:
            log.append(event)
    state = RunState()
    for event in run.events():
        state = reduce(state, event)
    return state


def test_each_measured_phase_stands_beside_its_estimate(tmp_path: Path) -> None:
    backward = PEAKS["backward"]
    state = _run(tmp_path, ("backward", backward // 2), ("load", PEAKS["load"]), ("backward", int(1.01 * backward)))
    load, back = phase_lines(state)
    assert (load.label, load.difference, load.tone) == ("Loading", "+0.0%", "ok")
    assert (back.label, back.difference, back.tone) == ("Backward", "+1.0%", "ok")


def test_more_than_the_error_allows_is_marked(tmp_path: Path) -> None:
    (line,) = phase_lines(_run(tmp_path, ("backward", int(1.2 * PEAKS["backward"]))))
    assert (line.difference, line.tone) == ("+20.0%", "warn")


def test_a_phase_that_nobody_estimated_is_shown_with_what_was_measured(tmp_path: Path) -> None:
    (line,) = phase_lines(_run(tmp_path, ("save", 5 * GIB)))
    assert (line.label, line.estimated, line.difference, line.tone) == ("Saving", "–", "–", "muted")


def test_the_probes_peak_is_told_beside_the_estimate(tmp_path: Path) -> None:
    text = memory_text(_run(tmp_path))
    assert "Estimated by formula" in text
    assert "The probe of its longest rows took 6.5 GiB, 5.0 GiB used." in text


def test_a_run_on_a_processor_shows_no_card_of_memory(qapp: QApplication, tmp_path: Path) -> None:
    card, panel = MemoryCard(), GpuPanel()
    card.render_state(RunState())
    panel.render_run(RunState(), None)
    assert card.isHidden()
    assert panel._phases.isHidden()
    state = _run(tmp_path, ("backward", PEAKS["backward"]))
    card.render_state(state)
    panel.render_run(state, state)
    assert not card.isHidden()
    assert [word for word, _ in panel._phases.facts()] == ["Backward"]
