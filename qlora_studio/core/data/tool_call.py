"""Tools that a conversation may call, and the calls, in the forms that datasets have for them."""

from collections.abc import Mapping
from typing import Any

from qlora_studio.core.data.row_notes import Fields, RowNotes, is_nothing
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import from_json_text, kind_of
from qlora_studio.core.words import say

# OpenAI's names first; then those of Hermes and xLAM, Llama, Gemini and LangChain, Anthropic.
_NAMES = ("name", "tool_name", "function_name")
CALL_KEYS = frozenset({"tool_calls", "function_call"})
_ARGUMENTS = ("arguments", "parameters", "args", "input", "kwargs")
_CALL_IDS = ("call_id", "id", "tool_call_id", "tool_use_id")


def tool_schemas(value: Any, notes: RowNotes, what: str = "tools") -> tuple[dict[str, Any], ...]:
    """Return the tools of a row. Raises RowRefused."""
    if is_nothing(value):
        return ()
    value = from_json_text(value, what, "tools", notes)
    if isinstance(value, dict):
        value = [value]
        notes.repaired("read one tool as a list of tools")
    if not isinstance(value, list):
        raise RowRefused(say("{what} is not a list of objects", what=what))
    return tuple(schema for tool in value for schema in _schemas(tool, notes, what))


def tool_calls(turn: Fields, what: str, path: str, notes: RowNotes) -> list[dict[str, Any]]:
    """Return the calls of a turn, in the shape that chat templates take. Raises RowRefused naming `what`."""
    calls = turn.get("tool_calls")
    if is_nothing(calls):
        calls = turn.get("function_call")
        if is_nothing(calls):
            return []
        notes.repaired("read function_call as tool_calls")
    else:
        path += "tool_calls[]."
    calls = from_json_text(calls, f"{what}: tool_calls", "tool calls", notes)
    if isinstance(calls, dict):
        calls = [calls]
    if not isinstance(calls, list):
        raise RowRefused(say("{what}: tool_calls {kind_of}, not a list", what=what, kind_of=kind_of(calls)))
    return [tool_call(call, what, path, notes) for call in calls]


def calls_of_text(value: Any, what: str, path: str, notes: RowNotes) -> list[dict[str, Any]]:
    """Return the calls that a turn's whole content is, as its role says. Raises RowRefused."""
    calls = from_json_text(value, what, "tool calls", RowNotes(notes.reading))
    return [tool_call(call, what, path, notes) for call in (calls if isinstance(calls, list) else [calls])]


def tool_call(call: Any, what: str, path: str, notes: RowNotes) -> dict[str, Any]:
    """Return one call. Raises RowRefused."""
    call = from_json_text(call, f"{what}: a tool call", "tool calls", notes)
    outer = Fields(call if isinstance(call, Mapping) else {})
    function = outer.get("function") or outer.values
    if isinstance(function, str) and not function.lstrip().startswith("{"):  # the name alone, arguments beside it
        rest = {key: value for key, value in outer.values.items() if key != "function"}
        outer = Fields({**rest, "name": function})
        function = outer.values
    function = from_json_text(function, f"{what}: a tool call", "tool calls", notes)
    inner = outer if function is outer.values else Fields(function if isinstance(function, Mapping) else {})
    name = inner.first(*_NAMES)
    if not isinstance(name, str):
        raise RowRefused(say("{what} has a tool call without a function's name", what=what))
    arguments = inner.first(*_ARGUMENTS)
    if isinstance(arguments, str):
        words = "the arguments of a tool call"
        arguments = from_json_text(arguments, f"{what}: {words}", words, notes) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowRefused(say("{what}: the arguments of a tool call are not an object", what=what))
    outer.get("type")
    known = {"id": found} if isinstance(found := outer.first(*_CALL_IDS), str) else {}
    notes.left(outer, path)
    if inner is not outer:
        inner.get("type")
        notes.left(inner, f"{path}function.")
    return {"type": "function", **known, "function": {"name": name, "arguments": arguments}}


def _schemas(tool: Any, notes: RowNotes, what: str) -> list[dict[str, Any]]:
    tool = from_json_text(tool, f"{what}: an entry", "tools", notes)
    if not isinstance(tool, dict):
        raise RowRefused(say("{what} is not a list of objects", what=what))
    if declared := tool.get("function_declarations"):
        notes.repaired("read function_declarations as tools")
        return [function_schema(item) for item in declared] if isinstance(declared, list) else []
    if "input_schema" in tool:
        notes.repaired("read input_schema as the parameters of a tool")
        return [function_schema({"parameters" if key == "input_schema" else key: tool[key] for key in tool})]
    if isinstance(tool.get("function"), str):
        return [{**tool, "function": from_json_text(tool["function"], f"{what}: a function", "tools", notes)}]
    if "function" not in tool and isinstance(tool.get("name"), str):
        notes.repaired("put a bare function into the frame of a tool")
        return [function_schema(tool)]
    return [tool]


def function_schema(function: Any) -> dict[str, Any]:
    """Return a bare function in the frame that chat templates take; its `type` belongs to that frame."""
    if isinstance(function, dict):
        function = {key: value for key, value in function.items() if key != "type"}
    return {"type": "function", "function": function}
