"""What a worker is doing, and where a run stands: the words of both, and which activity belongs to which phase."""

from enum import StrEnum


class Phase(StrEnum):
    """Where a run stands, with the words that the window and the terminal say for it."""

    words: str

    def __new__(cls, value: str, words: str = "") -> "Phase":
        """Make a member of its value and its words."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

    NEW = "new", "Not started"
    STARTING = "starting", "Starting"
    PREPARING = "preparing", "Preparing"
    TRAINING = "training", "Training"
    EVALUATING = "evaluating", "Evaluating"
    SAVING = "saving", "Saving"
    EXPORTING = "exporting", "Exporting"
    WAITING = "waiting", "Waiting for disk space"
    RECOVERING = "recovering", "Recovering"
    PAUSED = "paused", "Paused"
    STOPPED = "stopped", "Stopped"
    FINISHED = "finished", "Finished"
    FAILED = "failed", "Failed"

    @property
    def is_over(self) -> bool:
        """Whether no worker is at work."""
        return self in (Phase.NEW, Phase.PAUSED, Phase.STOPPED, Phase.FINISHED, Phase.FAILED)


class Activity(StrEnum):
    """What a worker turns to, as `PhaseChanged` tells it: each with the phase that it belongs to, and its words."""

    phase: Phase
    words: str

    def __new__(cls, value: str, phase: Phase = Phase.PREPARING, words: str = "") -> "Activity":
        """Make a member of its value, its phase and its words."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.phase = phase
        member.words = words
        return member

    LOADING_LIBRARIES = "loading_libraries", Phase.STARTING, "Starting"
    ASKING_THE_HUB = "asking_the_hub", Phase.PREPARING, "Asking the hub"
    DOWNLOADING = "downloading", Phase.PREPARING, "Downloading from the hub"
    CONVERTING_MODEL = "converting_model", Phase.PREPARING, "Converting the model"
    READING_DATA = "reading_data", Phase.PREPARING, "Reading rows"
    PREPARING_DATA = "preparing_data", Phase.PREPARING, "Preparing the data"
    CHECKING_BASE = "checking_base", Phase.PREPARING, "Checking the base model"
    LOADING_MODEL = "loading_model", Phase.PREPARING, "Loading the model"
    PROBING = "probing", Phase.PREPARING, "Trying the longest rows"
    TRACING_LOAD = "tracing_load", Phase.PREPARING, "Tracing the loading"
    TRACING_FORWARD = "tracing_forward", Phase.PREPARING, "Tracing the forward pass"
    TRACING_BACKWARD = "tracing_backward", Phase.PREPARING, "Tracing the backward pass"
    TRACING_EVALUATION = "tracing_evaluation", Phase.PREPARING, "Tracing the evaluation"
    READY = "ready", Phase.PREPARING, "Ready"
    TRAINING = "training", Phase.TRAINING, "Training"
    EVALUATING = "evaluating", Phase.EVALUATING, "Evaluating"
    SAVING = "saving", Phase.SAVING, "Saving"
    WAITING_FOR_SPACE = "waiting_for_space", Phase.WAITING, "Waiting for disk space"
    WEIGHING = "weighing", Phase.EXPORTING, "Measuring what matters"
    MERGING = "merging", Phase.EXPORTING, "Merging"
    QUANTIZING = "quantizing", Phase.EXPORTING, "Quantizing"
    EXPORTING = "exporting", Phase.EXPORTING, "Exporting"
    VERIFYING = "verifying", Phase.EXPORTING, "Verifying"
    COMPARING_BASES = "comparing_bases", Phase.EXPORTING, "Comparing the bases"
    CHECKING_EXPORT = "checking_export", Phase.EXPORTING, "Checking the export"
    UPLOADING = "uploading", Phase.EXPORTING, "Uploading"


_KNOWN: dict[str, Activity] = {str(activity): activity for activity in Activity}


def phase_of(activity: str) -> Phase:
    """Return the phase of an activity; one of a later version counts as preparing."""
    known = _KNOWN.get(activity)
    return known.phase if known else Phase.PREPARING


def activity_words(activity: str) -> str:
    """Return an activity in words; the word itself, made readable, where a later version told it."""
    known = _KNOWN.get(activity)
    return known.words if known else activity.replace("_", " ").capitalize()
