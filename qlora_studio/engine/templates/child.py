"""The child in which chat templates are rendered: `python -m qlora_studio.engine.templates.child`.

A template comes from the hub and is a program. jinja2's sandbox keeps it from reaching anything, but not from looping
for ever or filling the memory. So it is rendered here: the memory is limited by this process, the time by its parent.

A JSON object a line, in and out. First `{"template", "variables", "control_tokens", "end_token", "stops", "now",
"learned", "joins", "keeps"}`, answered by `{}` or `{"error": …}`; then batches `{"rows": [[messages,
tools], …]}`, answered by `{"rows": [{the fields of Answers} | {"error": …}, …]}`.
"""

import json
import signal
import sys
from datetime import datetime
from typing import Any

from jinja2 import TemplateError

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.engine.templates.chat_template import ChatTemplate
from qlora_studio.engine.templates.completeness import Incomplete
from qlora_studio.engine.templates.loss_mask import AnswerFinder, MaskUnavailable

_MEMORY_LIMIT = 1 << 30  # bytes of address space
_ORPHAN_SECONDS = 120  # the parent ends a child that takes long; this is for one whose parent is gone


def main() -> None:
    """Serve until the parent closes the pipe."""
    _limit_memory()
    finder: AnswerFinder | None = None
    for line in sys.stdin.buffer:
        _limit_time(_ORPHAN_SECONDS)
        request = json.loads(line)
        if finder is None:
            finder, reply = _finder(request)
        else:
            reply = {"rows": [_row(finder, *row) for row in request["rows"]]}
        sys.stdout.buffer.write(json.dumps(reply).encode() + b"\n")
        sys.stdout.buffer.flush()
        _limit_time(0)


def _finder(request: dict[str, Any]) -> tuple[AnswerFinder | None, dict[str, Any]]:
    now = datetime.fromisoformat(request["now"])
    try:
        template = ChatTemplate(request["template"], request["variables"], now)
        finder = AnswerFinder(
            template,
            request["control_tokens"],
            request["end_token"],
            request["stops"],
            learned=request["learned"],
            joins=request["joins"],
            keeps=request["keeps"],
        )
        return finder, {}
    except (TemplateError, MemoryError, RecursionError) as error:
        return None, {"error": _words(error)}


def _row(finder: AnswerFinder, messages: Any, tools: Any) -> dict[str, Any]:
    try:
        return vars(finder.find(messages, tools))
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
