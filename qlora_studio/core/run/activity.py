"""What a worker is doing, and where a run stands: the words of both, and which activity belongs to which phase."""

from enum import StrEnum

from qlora_studio.core.words import say


class Phase(StrEnum):
    """Where a run stands, with the words that the window and the terminal say for it."""

    words: str

    def __new__(cls, value: str, words: str = "") -> "Phase":
        """Make a member of its value and its words."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.words = words
        return member

    NEW = "new", say("Not started")
    STARTING = "starting", say("Starting")
    PREPARING = "preparing", say("Preparing")
    TRAINING = "training", say("Training")
    EVALUATING = "evaluating", say("Evaluating")
    SAVING = "saving", say("Saving")
    EXPORTING = "exporting", say("Exporting")
    WAITING = "waiting", say("Waiting for disk space")
    RECOVERING = "recovering", say("Recovering")
    PAUSED = "paused", say("Paused")
    STOPPED = "stopped", say("Stopped")
    FINISHED = "finished", say("Finished")
    FAILED = "failed", say("Failed")
    CANCELLED = "cancelled", say("Cancelled")

    @property
    def is_over(self) -> bool:
        """Whether no worker is at work."""
        return self in (Phase.NEW, Phase.PAUSED, Phase.STOPPED, Phase.FINISHED, Phase.FAILED, Phase.CANCELLED)


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

    LOADING_LIBRARIES = "loading_libraries", Phase.STARTING, say("Starting")
    WAITING_FOR_MACHINES = "waiting_for_machines", Phase.PREPARING, say("Waiting for the other machines")
    ASKING_THE_HUB = "asking_the_hub", Phase.PREPARING, say("Asking the hub")
    DOWNLOADING = "downloading", Phase.PREPARING, say("Downloading from the hub")
    CONVERTING_MODEL = "converting_model", Phase.PREPARING, say("Converting the model")
    READING_DATA = "reading_data", Phase.PREPARING, say("Reading rows")
    PREPARING_DATA = "preparing_data", Phase.PREPARING, say("Preparing the data")
    CHECKING_BASE = "checking_base", Phase.PREPARING, say("Checking the base model")
    LOADING_MODEL = "loading_model", Phase.PREPARING, say("Loading the model")
    PROBING = "probing", Phase.PREPARING, say("Trying the longest rows")
    TRACING_LOAD = "tracing_load", Phase.PREPARING, say("Tracing the loading")
    TRACING_FORWARD = "tracing_forward", Phase.PREPARING, say("Tracing the forward pass")
    TRACING_BACKWARD = "tracing_backward", Phase.PREPARING, say("Tracing the backward pass")
    TRACING_EVALUATION = "tracing_evaluation", Phase.PREPARING, say("Tracing the evaluation")
    READY = "ready", Phase.PREPARING, say("Ready")
    TRAINING = "training", Phase.TRAINING, say("Training")
    EVALUATING = "evaluating", Phase.EVALUATING, say("Evaluating")
    SAVING = "saving", Phase.SAVING, say("Saving")
    WAITING_FOR_SPACE = "waiting_for_space", Phase.WAITING, say("Waiting for disk space")
    WEIGHING = "weighing", Phase.EXPORTING, say("Measuring what matters")
    MERGING = "merging", Phase.EXPORTING, say("Merging")
    QUANTIZING = "quantizing", Phase.EXPORTING, say("Quantizing")
    EXPORTING = "exporting", Phase.EXPORTING, say("Exporting")
    VERIFYING = "verifying", Phase.EXPORTING, say("Verifying")
    COMPARING_BASES = "comparing_bases", Phase.EXPORTING, say("Comparing the bases")
    CHECKING_EXPORT = "checking_export", Phase.EXPORTING, say("Checking the export")
    UPLOADING = "uploading", Phase.EXPORTING, say("Uploading")


_KNOWN: dict[str, Activity] = {str(activity): activity for activity in Activity}


def phase_of(activity: str) -> Phase:
    """Return the phase of an activity; one of a later version counts as preparing."""
    known = _KNOWN.get(activity)
    return known.phase if known else Phase.PREPARING


def activity_words(activity: str) -> str:
    """Return an activity in words; the word itself, made readable, where a later version told it."""
    known = _KNOWN.get(activity)
    return known.words if known else activity.replace("_", " ").capitalize()
