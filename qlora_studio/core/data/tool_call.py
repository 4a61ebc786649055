"""Tools that a conversation may call, and the calls."""

from typing import Any

from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import Repairs, kind_of, parsed_json


def tool_schemas(value: Any, repairs: Repairs) -> tuple[dict[str, Any], ...]:
    """Return the tools of a row. Raises RowRefused."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        value = parsed_json(value, "tools")
        repairs["read tools from JSON text"] = None
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise RowRefused("tools is not a list of objects")
    return tuple(value)


def tool_calls(turn: dict[str, Any], what: str, repairs: Repairs) -> list[dict[str, Any]]:
    """Return the calls of a turn, in the shape that chat templates take. Raises RowRefused naming `what`."""
    calls = turn.get("tool_calls")
    if calls is None and isinstance(turn.get("function_call"), dict):
        repairs["read function_call as tool_calls"] = None
        calls = [{"function": turn["function_call"]}]
    if calls is None or calls == []:
        return []
    if not isinstance(calls, list):
        raise RowRefused(f"{what}: tool_calls {kind_of(calls)}, not a list")
    return [_tool_call(call, what, repairs) for call in calls]


def calls_of_text(value: Any, what: str) -> list[dict[str, Any]]:
    """Return the calls that a turn's whole text is. Raises RowRefused."""
    calls = parsed_json(value, what) if isinstance(value, str) else value
    calls = calls if isinstance(calls, list) else [calls]
    return [_tool_call(call, what, {}) for call in calls]


def _tool_call(call: Any, what: str, repairs: Repairs) -> dict[str, Any]:
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowRefused(f"{what} has a tool call without a function's name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = parsed_json(arguments, f"{what}: the arguments of a tool call") if arguments.strip() else {}
        repairs["read the arguments of a tool call from JSON text"] = None
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowRefused(f"{what}: the arguments of a tool call are not an object")
    known = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
    return {"type": "function", **known, "function": {"name": function["name"], "arguments": arguments}}
