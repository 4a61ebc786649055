"""The runs on disk with their exports, read on from where the last look ended."""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.run.activity import Phase
from qlora_studio.core.run.events import Exported
from qlora_studio.core.run.reports import ExportedFacts, VerificationReport
from qlora_studio.core.run.run_state import RunState, fold
from qlora_studio.core.run.titles import model_title
from qlora_studio.storage.runs.checkpoint_folder import CheckpointFolder
from qlora_studio.storage.runs.export_folder import ExportManifest, exports_of, verification_of
from qlora_studio.storage.runs.run_folder import RunFolder, run_folders
from qlora_studio.storage.runs.trust import objection, trust_stamp

_NEVER = (-1, 0)
_TONES = {"finished": "ok", "failed": "bad", "broken off": "warn", "paused": "warn", "not readable": "bad"}


@dataclass(frozen=True)
class PastExport:
    """A finished export and the report of its verification; one without checks where there was none."""

    exported: Exported
    report: VerificationReport = field(default_factory=VerificationReport, hash=False)


@dataclass(frozen=True)
class RunLine:
    """A run in the list. `resumable` is whether it can go on; `broken` whether it ended without a word.

    `objection` says why it may give no orders here, where it is not trusted.
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
    exports: tuple[PastExport, ...] = ()
    queued: int = 0
    waits_for: str = ""

    @property
    def words(self) -> str:
        """The state, or the place in the queue and what the first one waits for."""
        if not self.queued:
            return f"{self.state}, not trusted" if self.objection else self.state
        return f"in the queue, no. {self.queued}" + (f": waits for {self.waits_for}" if self.waits_for else "")

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
        return f"{self.step:,} of {self.total_steps:,}" if self.total_steps else "–"

    @property
    def loss(self) -> str:
        """The newest evaluation loss."""
        return "–" if self.evaluation_loss is None else f"{self.evaluation_loss:.3f}"


class KnownRun:
    """What was read of a run so far: its events are read on from where the last look ended.

    Threads may look at once: the second waits for the first, and does not take what that has read half for the whole.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.line = RunLine(str(folder.path), folder.path.name)
        self.stamp = _NEVER
        self._trust_stamp: tuple[int, ...] = ()
        self._objection = ""
        self._folder = folder
        self._log = folder.event_log()
        self._state = RunState()
        self._lock = threading.Lock()

    def look(self) -> RunLine:
        """Return the run as it is now."""
        with self._lock:
            stamp = _stamp(self._folder)
            if stamp != self.stamp:
                self.stamp = stamp
                self.line = self._read()
            if (now := trust_stamp(self._folder.path)) != self._trust_stamp:
                why = objection(self._folder.path)
                self._trust_stamp, self._objection = now, why.message if why else ""
        return _judged(self.line, busy=self._folder.is_busy(), objection=self._objection)

    def _read(self) -> RunLine:
        try:
            self._state = fold(self._state, self._log.all())
            return replace(_line(self._folder, self._state), damage=self._log.damage)
        except StudioError as error:
            self._log, self._state = self._folder.event_log(), RunState()
            if error.kind is FailureKind.DAMAGED:  # the events are others than before
                self.stamp = _NEVER
            return self._unreadable(f"{error.message} {error.advice}".strip())
        except OSError as error:
            return self._unreadable(str(error))

    def _unreadable(self, problem: str) -> RunLine:
        return replace(self.line, state="not readable", has_adapter=False, problem=problem)


def read_runs(runs: Path, known: dict[str, KnownRun]) -> list[RunLine]:
    """Return all runs, newest first. `known` keeps what was read, so that a second look reads only what is new."""
    folders = run_folders(runs)
    return [known.setdefault(str(folder.path), KnownRun(folder)).look() for folder in folders]


def _judged(line: RunLine, *, busy: bool, objection: str) -> RunLine:
    """A run that has not ended and has no worker broke off; one that is not trusted does not go on."""
    if line.problem:
        return line
    broken = not busy and line.state == "at work"
    state = "broken off" if broken else line.state
    open_end = state in ("broken off", "paused", "failed", "stopped", "not started")
    resumable = not busy and open_end and not objection
    return replace(line, busy=busy, broken=broken, state=state, resumable=resumable, objection=objection)


def _stamp(folder: RunFolder) -> tuple[int, int]:
    """What changes when a run goes on, or is exported or verified."""
    size, newest = 0, 0
    for path in (folder.config_path, folder.events_path, folder.exports_path, *folder.exports_path.glob("*")):
        try:
            stat = path.stat()
        except OSError:
            continue
        size, newest = size + stat.st_size, max(newest, stat.st_mtime_ns)
    return (size, newest)


def _line(folder: RunFolder, state: RunState) -> RunLine:
    config = folder.config()
    checkpoints = tuple(int(item.name.rsplit("-", 1)[-1]) for item in CheckpointFolder(folder.checkpoints_path).all())
    return RunLine(
        path=str(folder.path),
        name=config.name,
        model=model_title(config.model.source),
        state=state.phase.words.lower() if state.phase.is_over or state.phase is Phase.WAITING else "at work",
        step=state.step,
        total_steps=state.total_steps,
        evaluation_loss=state.evaluation.loss if state.evaluation else None,
        when=state.last_event or folder.config_path.stat().st_mtime,
        has_adapter=_has_adapter(folder, state),
        safe_step=checkpoints[0] if checkpoints else None,
        parameters=state.model.parameters if state.model else 0,
        adapter_bytes=sum(item.stat().st_size for item in folder.adapter_path.glob("*.safetensors")),
        checkpoints=checkpoints,
        rank=config.lora.rank,
        text_model=state.model.text_model if state.model else "",
        parent=f"goes on from {state.parent.words}" if state.parent else "",
        exports=past_exports(folder.exports_path),
    )


def _has_adapter(folder: RunFolder, state: RunState) -> bool:
    return bool(state.adapter_path) or (folder.adapter_path / "adapter_config.json").exists()


def past_exports(folder: Path) -> tuple[PastExport, ...]:
    """Return the finished exports in a folder, newest first."""
    return tuple(_past_export(path, manifest) for path, manifest in exports_of(folder))


def _past_export(path: Path, manifest: ExportManifest) -> PastExport:
    facts = ExportedFacts.model_validate(manifest.model_dump(exclude={"base"}))
    exported = Exported(format=manifest.format, path=str(path), size_bytes=manifest.size_bytes, facts=facts)
    return PastExport(exported, verification_of(path))
