"""A chat template at work in a child process, with limits of time and memory."""

import contextlib
import json
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from qlora_studio import child_process
from qlora_studio.core.errors import FailureKind, StudioError
from qlora_studio.core.words import say

BATCH_SECONDS = 30.0
ROW_SECONDS = 5.0
_MOST_FAILED = 8  # rows of a batch for which there is not enough memory
_DIED = "the template's process died with it, most likely for want of memory"
_PATIENCE_SECONDS = 2.0  # with a child that has nothing to do and is to end

# Messages, tools, and what the row sets of the template's variables.
Conversation = tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]] | None, Mapping[str, Any] | None]


class TemplateRefusal(StudioError):
    """A chat template that does not take a conversation, or fails on it."""

    def __init__(self, why: str) -> None:
        super().__init__(
            "The chat template of this model does not take this conversation.",
            kind=FailureKind.MODEL_REFUSED,
            advice="Correct the model's chat_template, or ask otherwise: some take no system prompt.",
            detail=why,
        )


def rendered_texts(
    template: str,
    conversations: Sequence[Sequence[Mapping[str, Any]]],
    *,
    variables: Mapping[str, Any],
    now: datetime,
    opening: bool,
    seconds: float = ROW_SECONDS,
) -> list[str]:
    """Return conversations by a template, rendered in a child of their own; `opening` invites the answer.

    Raises TemplateRefusal, and StudioError where it does not come to an end.
    """
    child = _Child()
    try:
        child.send(
            {
                "template": template,
                "variables": dict(variables),
                "now": now.isoformat(),
                "texts": [list(messages) for messages in conversations],
                "opening": opening,
            }
        )
        reply = child.receive(seconds)
    finally:
        child.close()
    if reply is None:
        raise _endless()
    if "error" in reply:
        raise TemplateRefusal(str(reply["error"]))
    return [str(text) for text in reply["texts"]]


class TemplateSandbox:
    """Renders batches of conversations in a long-lived child, which is replaced where it had to be ended.

    One thread only. `submit` and `collect` let the caller work on one batch while the next is rendered.
    """

    def __init__(
        self,
        template: str,
        *,
        variables: Mapping[str, Any],
        control_tokens: Sequence[str],
        end_token: str,
        stops: Sequence[str] = (),
        now: datetime,
        learned: str = "assistant",
        joins: bool = False,
        keeps: bool = False,
        batch_seconds: float = BATCH_SECONDS,
        row_seconds: float = ROW_SECONDS,
    ) -> None:
        self._setup = {
            "template": template,
            "variables": dict(variables),
            "control_tokens": list(control_tokens),
            "end_token": end_token,
            "stops": list(stops),
            "now": now.isoformat(),
            "learned": learned,
            "joins": joins,
            "keeps": keeps,
        }
        self._batch_seconds, self._row_seconds = batch_seconds, row_seconds
        self._child: _Child | None = None
        self._stops: list[str] = []
        self._reads: list[str] = []
        self._pending: list[Conversation] | None = None

    def submit(self, rows: Sequence[Conversation]) -> None:
        """Hand a batch to the child. One batch at a time. Raises StudioError where the template is no template."""
        if self._pending is not None:
            raise RuntimeError("a batch is still at work")
        self._pending = list(rows)
        self._child = self._child or self._started()
        self._child.send({"rows": [list(row) for row in rows]})

    def collect(self) -> list[dict[str, Any]]:
        """Return an answer for each row of the batch, in order; a row that fails has an `error`."""
        if self._pending is None or self._child is None:
            raise RuntimeError("no batch was submitted")
        rows, self._pending = self._pending, None
        reply = self._child.receive(self._batch_seconds)
        if reply is not None and "rows" in reply:
            return list(reply["rows"])
        self._end_child()
        return [{"error": _why(reply)}] if len(rows) == 1 else self._row_by_row(rows)

    def render(self, rows: Sequence[Conversation]) -> list[dict[str, Any]]:
        """Submit and collect."""
        if not rows:
            return []
        self.submit(rows)
        return self.collect()

    def stops(self) -> list[str]:
        """Return the tokens at which generation is to stop. Raises StudioError where the template is no template."""
        self._child = self._child or self._started()
        return self._stops

    def reads(self) -> list[str]:
        """Return the variables that the template reads. Raises StudioError where the template is no template."""
        self._child = self._child or self._started()
        return self._reads

    def close(self) -> None:
        """End the child."""
        self._end_child(patience=0.0 if self._pending else _PATIENCE_SECONDS)

    def _row_by_row(self, rows: list[Conversation]) -> list[dict[str, Any]]:
        """Find the rows that end no child in time. Some of them, and it is the template: raises StudioError."""
        found: list[dict[str, Any]] = []
        endless = failed = 0
        for row in rows:
            child = self._child = self._child or self._started()
            child.send({"rows": [list(row)]})
            reply = child.receive(self._row_seconds)
            if reply is not None and "rows" in reply:
                found += reply["rows"]
                continue
            self._end_child()
            endless, failed = endless + (reply is None), failed + 1
            if endless > 1:
                raise _endless()
            if failed > _MOST_FAILED:
                raise _unusable(_why(reply))
            found.append({"error": _why(reply)})
        return found

    def _started(self) -> "_Child":
        child = _Child()
        child.send(self._setup)
        reply = child.receive(self._batch_seconds)
        if reply is None or "error" in reply:
            child.close()
            raise _unusable(_why(reply))
        self._stops, self._reads = list(reply["stops"]), list(reply["reads"])
        return child

    def _end_child(self, patience: float = 0.0) -> None:
        if self._child is not None:
            self._child.close(patience)
            self._child = None


class _Child:
    """The process, and a thread that reads its lines, so that waiting for one can have an end on every system."""

    def __init__(self) -> None:
        self._process = child_process.start(
            child_process.python("-m", "qlora_studio.engine.templates.child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(_pipe(self._process.stdout),), daemon=True)
        self._reader.start()

    def send(self, request: dict[str, Any]) -> None:
        stdin = _pipe(self._process.stdin)
        with contextlib.suppress(BrokenPipeError):  # it died; receive says so
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()

    def receive(self, seconds: float) -> dict[str, Any] | None:
        """Return the next answer, one with an `error` where the child died, or None where it took too long."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        return dict(json.loads(line)) if line else {"error": _DIED}

    def close(self, patience: float = 0.0) -> None:
        """End the process: it ends by itself when its input does, and is killed where it does not in time."""
        with contextlib.suppress(BrokenPipeError):
            _pipe(self._process.stdin).close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()
        _pipe(self._process.stdout).close()

    def _read(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            self._lines.put(line)
        self._lines.put(b"")


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise RuntimeError("the child has no pipe")
    return pipe


def _why(reply: dict[str, Any] | None) -> str:
    """Return why there is no answer for a row."""
    return "the template does not come to an end with it in time" if reply is None else str(reply["error"])


def _unusable(why: str) -> StudioError:
    return StudioError(
        say("The chat template of this model cannot be used."),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Correct the model's chat_template, or choose another model."),
        detail=why,
    )


def _endless() -> StudioError:
    return StudioError(
        say("The chat template of this model does not come to an end."),
        kind=FailureKind.MODEL_REFUSED,
        advice=say("Correct the model's chat_template, or choose another model."),
    )
