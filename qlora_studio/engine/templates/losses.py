"""What a chat template leaves out of a conversation without a word: calls and definitions of tools, and reasoning.

It is tried once for each template, with a conversation that has a mark in each of these places.
"""

from collections.abc import Callable, Iterator
from typing import Any

from qlora_studio.core.data.example import Example

CALLS, TOOLS = "tool calls", "definitions of tools"
REASONING, THOUGHT = "reasoning in a field of its own", "reasoning within the last answer"
_ID = "call00001"  # nine letters and digits: Mistral's templates refuse others


def losses_of(render: Callable[[list[dict[str, Any]], list[dict[str, Any]] | None], str | None]) -> frozenset[str]:
    """Return what a template leaves out. `render` returns the text of messages and tools, or None where it refuses."""
    lost = set()
    for what, (mark, messages, with_tools) in _probes().items():
        text = render(messages, [_TOOL] if with_tools else None)
        if text is not None and mark not in text:
            lost.add(what)
    return frozenset(lost)


def parts_of(example: Example) -> Iterator[str]:
    """Yield what an example has that a template may leave out."""
    if any(message.get("tool_calls") for message in example.messages):
        yield CALLS
    if example.tools:
        yield TOOLS
    last = example.messages[-1] if example.messages else {}
    if last.get("reasoning_content") or last.get("thinking"):
        yield REASONING
    if "</think>" in str(last.get("content", "")):
        yield THOUGHT


_TOOL = {
    "type": "function",
    "function": {
        "name": "zqtool",
        "description": "Does nothing.",
        "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": "A letter."}}},
    },
}


def _probes() -> dict[str, tuple[str, list[dict[str, Any]], bool]]:
    """Return, for each part, its mark, a conversation with it, and whether that has tools."""
    question = {"role": "user", "content": "Hello."}
    call = {"type": "function", "id": _ID, "function": {"name": "zqcall", "arguments": {"a": "b"}}}
    called: list[dict[str, Any]] = [
        question,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "Done.", "name": "zqother", "tool_call_id": _ID},
        {"role": "assistant", "content": "Bye."},
    ]
    bye: list[dict[str, Any]] = [question, {"role": "assistant", "content": "Bye."}]
    thought = {"role": "assistant", "content": "Bye.", "reasoning_content": "zqthought"}
    within = {"role": "assistant", "content": "<think>\nzqthought\n</think>\n\nBye."}
    return {
        CALLS: ("zqcall", called, True),
        TOOLS: ("zqtool", bye, True),
        REASONING: ("zqthought", [question, thought], False),
        THOUGHT: ("zqthought", [question, within], False),
    }
