"""The child in which chat templates are rendered: `python -m qlora_studio.engine.templates.child`.

A template comes from the hub and is a program. jinja2's sandbox keeps it from reaching anything, but not from looping
for ever or filling the memory. So it is rendered here: the memory is limited by this process, the time by its parent.

A JSON object a line, in and out. First `{"template", "variables", "control_tokens", "end_token", "stops", "now",
"learned", "joins", "keeps"}`, answered by `{"stops": […], "reads": […]}` or `{"error": …}`; then batches `{"rows":
[[messages, tools, variables], …]}`, answered by `{"rows": [{the fields of Answers} | {"error": …}, …]}`.

Where the first says `"texts": [messages, …]` and `"opening"`, it is answered by `{"texts": […]}` or `{"error": …}`, and
that is all: conversations as a model is asked, with no answers to be found.
"""

import json
import signal
import sys
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate, variables_read
from qlora_studio.engine.templates.completeness import Incomplete
from qlora_studio.engine.templates.loss_mask import AnswerFinder, MaskUnavailable

_MEMORY_LIMIT = 1 << 30  # bytes of address space
_MOST_FINDERS = 64
_LONGEST = 1 << 25  # characters of what a model is asked
_ORPHAN_SECONDS = 120  # the parent ends a child that takes long; this is for one whose parent is gone


def main() -> None:
    """Serve until the parent closes the pipe."""
    _limit_memory()
    finders: _Finders | None = None
    for line in sys.stdin.buffer:
        _limit_time(_ORPHAN_SECONDS)
        try:
            request = json.loads(line)
            reply: dict[str, Any]
            if "texts" in request:
                reply = _texts(request)
            elif finders is None:
                finders, reply = _started(request)
            else:
                reply = {"rows": [_row(finders, *row) for row in request["rows"]]}
            answer = json.dumps(reply).encode()
        except MemoryError as error:
            answer = json.dumps({"error": _words(error)}).encode()
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()
        _limit_time(0)


class _Finders:
    """A finder for each set of variables: a template may write another prompt for each."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._request, self._now = request, datetime.fromisoformat(request["now"])
        self._found: dict[str, AnswerFinder] = {}

    def of(self, variables: dict[str, Any] | None) -> AnswerFinder:
        """Return the finder of a row that sets these variables."""
        key = json.dumps(variables or {}, sort_keys=True)
        if key not in self._found:
            if len(self._found) >= _MOST_FINDERS:
                self._found.pop(next(iter(self._found)))
            self._found[key] = self._made({**self._request["variables"], **(variables or {})})
        return self._found[key]

    def _made(self, variables: dict[str, Any]) -> AnswerFinder:
        request = self._request
        return AnswerFinder(
            ChatTemplate(request["template"], variables, self._now),
            request["control_tokens"],
            request["end_token"],
            request["stops"],
            learned=request["learned"],
            joins=request["joins"],
            keeps=request["keeps"],
        )


def _started(request: dict[str, Any]) -> tuple[_Finders | None, dict[str, Any]]:
    try:
        finders = _Finders(request)
        stops, reads = finders.of(None).ends.stops, variables_read(request["template"])
        return finders, {"stops": list(stops), "reads": reads}
    except Exception as error:  # noqa: BLE001  as of a row
        return None, {"error": _words(error)}


def _texts(request: dict[str, Any]) -> dict[str, Any]:
    try:
        template = ChatTemplate(request["template"], request["variables"], datetime.fromisoformat(request["now"]))
        texts = [template.render(messages, generation_prompt=request["opening"]) for messages in request["texts"]]
    except Exception as error:  # noqa: BLE001  whatever a stranger's program does
        return {"error": _words(error)}
    if sum(map(len, texts)) > _LONGEST:
        return {"error": f"the template writes more than {_LONGEST:,} characters"}
    return {"texts": texts}


def _row(finders: _Finders, messages: Any, tools: Any, variables: Any = None) -> dict[str, Any]:
    try:
        return vars(finders.of(variables).find(messages, tools))
    except MaskUnavailable as error:
        return {"error": error.reason, "hidden": True, "text": error.text}
    except Incomplete as error:
        return {"error": error.reason, "text": error.text}
    except RowRefused as error:
        return {"error": error.reason}
    except Exception as error:  # noqa: BLE001  whatever a stranger's program does becomes its row's error
        return {"error": _words(error)}


def _words(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "the template needs more than 1 GiB of memory"
    if isinstance(error, TemplateError):
        return f"the template refuses it: {error}"
    return f"the template fails on it: {type(error).__name__}: {error}"


def _limit_memory() -> None:
    if sys.platform == "win32":  # no such limit there; the time limit still holds
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))


def _limit_time(seconds: int) -> None:
    """Have the system end this process after `seconds`; 0 calls that off."""
    if sys.platform != "win32":
        signal.alarm(seconds)


if __name__ == "__main__":
    main()
