"""What to do about a failure, by what the worker was doing: a chat has no batch, and an export no checkpoint."""

from qlora_studio.core.errors import FailureKind

_ANYTHING, _TRAINING = "", "train"
_CLOSE = "Close other programs that use memory"
_ADVICE: dict[FailureKind, dict[str, str]] = {
    FailureKind.OUT_OF_MEMORY: {
        _TRAINING: "Take a smaller batch or max length (Fit to my GPU proposes one), or close other programs on the "
        "card.",
        "chat": f"{_CLOSE}, begin a new conversation, ask for shorter answers, or export a GGUF of few bits "
        "(q4_K_M) and ask that: a llama.cpp computes with it as it is.",
        "export": f"{_CLOSE}, or export without an importance matrix, for which the whole model is loaded.",
        _ANYTHING: f"{_CLOSE}, and try again.",
    },
    FailureKind.CARD_LOST: {
        _TRAINING: "Resume from the last safe checkpoint. If it happens again, restart the computer and check heat and "
        "power.",
        _ANYTHING: "Try again. If it happens again, restart the computer and check heat and power.",
    },
    FailureKind.DISK_FULL: {
        _TRAINING: "Free some space, then press Resume: the last safe checkpoint is kept.",
        _ANYTHING: "Free some space, and try again.",
    },
    FailureKind.WORKER_DIED: {
        _TRAINING: "A run can be resumed from its last safe checkpoint; worker.log in its folder says more.",
        _ANYTHING: "Try again; worker.log in its folder says more.",
    },
    FailureKind.ERROR: {
        _TRAINING: "The details and worker.log in the run's folder say more; a run can be resumed from its last safe "
        "checkpoint.",
        _ANYTHING: "The details and worker.log in its folder say more.",
    },
}


def advice_for(kind: FailureKind, job: str) -> str:
    """Return what to do about a failure of a job of some kind, or of any where it is empty."""
    known = _ADVICE[kind]
    return known.get(job, known[_ANYTHING])
