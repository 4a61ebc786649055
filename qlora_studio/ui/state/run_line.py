"""The runs on disk as the window lists them: what the index says, and what lies beside it, with their exports."""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from qlora_studio.core.elsewhere.told import elsewhere_words
from qlora_studio.core.errors import StudioError
from qlora_studio.core.frozen import changed
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import ElsewhereTold, Exported
from qlora_studio.core.run.reports import ExportedFacts, VerificationReport
from qlora_studio.core.run.titles import model_title
from qlora_studio.core.words import say
from qlora_studio.storage.run_care.run_label import RunLabel, read_label
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.elsewhere_record import is_open_elsewhere, read_told
from qlora_studio.storage.runs.export_folder import ExportManifest, exports_of, verification_of
from qlora_studio.storage.runs.run_folder import RunFolder
from qlora_studio.storage.runs.run_index import RunIndex
from qlora_studio.storage.runs.run_summary import RunSummary
from qlora_studio.storage.runs.trust import objection, records_stamp, trust_stamp

_Stamp = tuple[tuple[str, int], ...]
PAUSED = Phase.PAUSED.words.lower()
_AT_WORK, _BROKEN_OFF, _NOT_READABLE = say("at work"), say("broken off"), say("not readable")
_TONES = {
    Phase.FINISHED.words.lower(): "ok",
    Phase.FAILED.words.lower(): "bad",
    _BROKEN_OFF: "warn",
    PAUSED: "warn",
    _NOT_READABLE: "bad",
}


@dataclass(frozen=True)
class PastExport:
    """A finished export and the report of its verification; one without checks where there was none."""

    exported: Exported
    report: VerificationReport = field(default_factory=VerificationReport, hash=False)


@dataclass(frozen=True)
class RunLine:
    """A run in the list. `resumable` is whether it can go on; `broken` whether it ended without a word.

    `objection` says why it may give no orders here, where it is not trusted. `name` is what its user calls
    it, `given_name` that of its settings; `size` is what it takes of the disk, in bytes, where that was measured.
    `elsewhere` says of a run that is at work on another computer how it stands there, `parent` names the runs that it
    goes on from, with → between them.
    """

    path: str
    name: str
    model: str = ""
    state: str = ""
    step: int = 0
    total_steps: int = 0
    evaluation_loss: float | None = None
    when: float = 0.0
    busy: bool = False
    broken: bool = False
    resumable: bool = False
    has_adapter: bool = False
    safe_step: int | None = None
    problem: str = ""
    objection: str = ""
    damage: str = ""
    parameters: int = 0
    adapter_bytes: int = 0
    checkpoints: tuple[int, ...] = ()
    rank: int = 16
    text_model: str = ""
    parent: str = ""
    elsewhere: str = ""
    exports: tuple[PastExport, ...] = ()
    queued: int = 0
    waits_for: str = ""
    label: RunLabel = field(default_factory=RunLabel)
    given_name: str = ""
    size: int | None = None
    energy_joules: float | None = None

    @property
    def words(self) -> str:
        """The state, or the place in the queue and what the first one waits for."""
        if not self.queued:
            return say("{state}, not trusted", state=self.state) if self.objection else self.state
        if not self.waits_for:
            return say("in the queue, no. {queued}", queued=self.queued)
        return say("in the queue, no. {queued}: waits for {run}", queued=self.queued, run=self.waits_for)

    @property
    def remark(self) -> str:
        """Why the run cannot be read, or what of it cannot."""
        return self.problem or self.damage

    @property
    def tone(self) -> str:
        """The colour of the state."""
        return "accent" if self.busy else _TONES.get(self.state, "muted")

    @property
    def steps(self) -> str:
        """The steps taken, of how many."""
        return (
            say("{step:,} of {total_steps:,}", step=self.step, total_steps=self.total_steps)
            if self.total_steps
            else "–"
        )

    @property
    def loss(self) -> str:
        """The newest evaluation loss."""
        return "–" if self.evaluation_loss is None else f"{self.evaluation_loss:.3f}"


class KnownRuns:
    """What was read of the runs so far, so that a second look reads only what is new. Threads may look at once."""

    def __init__(self) -> None:
        self._index = RunIndex()
        self._lines: dict[str, tuple[RunSummary, _Stamp, RunLine]] = {}
        self._objections: dict[str, tuple[tuple[int, ...], str]] = {}
        self._records: tuple[int, ...] = ()

    def look(self, runs: Path) -> list[RunLine]:
        """Return all runs as they are now, newest first."""
        found, self._records = self._index.listed(runs), records_stamp()
        return [_labelled(self._now(folder, known), folder) for folder, known in found]

    def _now(self, folder: RunFolder, known: RunSummary | StudioError) -> RunLine:
        if isinstance(known, StudioError):
            return _unreadable(folder, f"{known.message} {known.advice}".strip())
        try:
            line = self._line(folder, known)
        except OSError as error:  # it was removed just now
            return _unreadable(folder, str(error))
        busy = folder.is_busy()
        line = _judged(line, known.phase, busy=busy, objection=self._objection(folder))
        return _seen_elsewhere(line, read_told(folder.path)) if busy and is_open_elsewhere(folder.path) else line

    def _line(self, folder: RunFolder, summary: RunSummary) -> RunLine:
        key, stamp = str(folder.path), _stamp(folder)
        before = self._lines.get(key)
        if before is None or before[:2] != (summary, stamp):
            before = self._lines[key] = (summary, stamp, _line(folder, summary))
        return before[2]

    def _objection(self, folder: RunFolder) -> str:
        key, stamp = str(folder.path), (*self._records, *trust_stamp(folder.path))
        before = self._objections.get(key)
        if before is None or before[0] != stamp:
            why = objection(folder.path)
            before = self._objections[key] = (stamp, why.message if why else "")
        return before[1]


def _unreadable(folder: RunFolder, problem: str) -> RunLine:
    return RunLine(str(folder.path), folder.path.name, state=_NOT_READABLE, problem=problem)


def _labelled(line: RunLine, folder: RunFolder) -> RunLine:
    """The run as its user calls it."""
    label = read_label(folder)
    return changed(line, name=label.name or line.name, given_name=line.name, label=label)


def _judged(line: RunLine, phase: Phase, *, busy: bool, objection: str) -> RunLine:
    """A run that has not ended and has no worker broke off; one that is not trusted does not go on."""
    broken = not busy and not phase.is_over
    state = _BROKEN_OFF if broken else line.state
    resumable = not busy and phase is not Phase.FINISHED and not objection
    return changed(line, busy=busy, broken=broken, state=state, resumable=resumable, objection=objection)


def _seen_elsewhere(line: RunLine, told: ElsewhereTold | None) -> RunLine:
    """Say how a run stands that is on another computer: shortly in its column, and in full in a tip."""
    if told is None:
        return line
    place = told.place
    if told.unreached_since:
        state = say("not reached on {place}", place=place)
    elif told.standing == "running":
        state = say("at work on {place}", place=place)
    else:
        state = say("waits on {place}", place=place)
    return changed(line, state=state, elsewhere=elsewhere_words(told))


def _stamp(folder: RunFolder) -> _Stamp:
    """What changes when a run is exported or verified, and when a checkpoint or its adapter comes or goes."""
    return _entries(folder.exports_path) + _entries(folder.checkpoints_path) + _entries(folder.adapter_path)


def _entries(folder: Path) -> _Stamp:
    try:
        with os.scandir(folder) as entries:
            return tuple(sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries))
    except OSError:
        return ()


def _line(folder: RunFolder, summary: RunSummary) -> RunLine:
    checkpoints = tuple(int(item.name.rsplit("-", 1)[-1]) for item in CheckpointFolder(folder.checkpoints_path).all())
    phase = summary.phase
    return RunLine(
        path=str(folder.path),
        name=summary.name,
        model=model_title(summary.source),
        state=phase.words.lower() if phase.is_over or phase is Phase.WAITING else _AT_WORK,
        step=summary.step,
        total_steps=summary.total_steps,
        evaluation_loss=summary.evaluation_loss,
        when=summary.last_event or folder.config_path.stat().st_mtime,
        has_adapter=bool(summary.adapter_path) or (folder.adapter_path / "adapter_config.json").exists(),
        safe_step=checkpoints[0] if checkpoints else None,
        damage=summary.damage,
        parameters=summary.parameters,
        adapter_bytes=sum(item.stat().st_size for item in folder.adapter_path.glob("*.safetensors")),
        checkpoints=checkpoints,
        rank=summary.rank,
        text_model=summary.text_model,
        energy_joules=summary.energy or None,
        parent=summary.parent,
        exports=past_exports(folder.exports_path),
    )


def when_text(when: float, now: float | None = None) -> str:
    """Return today 14:05, or a date; nothing for one that no calendar has, as a copied file's can be."""
    try:
        moment, today = time.localtime(when), time.localtime(now if now is not None else time.time())
    except (OverflowError, ValueError, OSError):
        return "–"
    if not when:
        return "–"
    same_day = moment[:3] == today[:3]
    if same_day:
        return say("today {time}", time=time.strftime("%H:%M", moment))
    return time.strftime("%Y-%m-%d %H:%M", moment)


def past_exports(folder: Path) -> tuple[PastExport, ...]:
    """Return the finished exports in a folder, newest first."""
    return tuple(_past_export(path, manifest) for path, manifest in exports_of(folder))


def _past_export(path: Path, manifest: ExportManifest) -> PastExport:
    facts = ExportedFacts.model_validate(manifest.model_dump(exclude={"base"}))
    exported = Exported(format=manifest.format, path=str(path), size_bytes=manifest.size_bytes, facts=facts)
    return PastExport(exported, verification_of(path))
