"""A conversation as it stands in a dataset, as messages of one shape; every change is named, or it is refused."""

from typing import Any

from qlora_studio.core.data.reasoning import reasoning_of
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import calls_of_text, tool_calls
from qlora_studio.core.data.turn_marks import trained_mark
from qlora_studio.core.data.values import Repairs, kind_of, parsed_json, shown

Message = dict[str, Any]

CHAT_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function_call": "assistant",
    "tool_call": "assistant",
}
_OTHER_ROLES = SHAREGPT_ROLES | {
    "developer": "system",
    "function": "tool",
    "ipython": "tool",
    "ai": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "answer": "assistant",
    "prompter": "user",
    "question": "user",
}
_CALLING_ROLES = ("function_call", "tool_call")
_KEPT_TEXTS = ("name", "tool_call_id")


def chat_messages(turns: Any, repairs: Repairs) -> list[Message]:
    """Return the messages of role/content turns. Raises RowRefused."""
    return _messages(turns, "role", "content", CHAT_ROLES, repairs)


def sharegpt_messages(turns: Any, repairs: Repairs) -> list[Message]:
    """Return the messages of from/value turns. Raises RowRefused."""
    return _messages(turns, "from", "value", SHAREGPT_ROLES, repairs)


def checked_order(messages: list[Message], repairs: Repairs) -> tuple[Message, ...]:
    """Return the messages from the first question to the last answer. Raises RowRefused where they do not follow.

    Answers before the first question are left out: pieces of a longer conversation begin so, and templates have no
    place for them. Turns after the last answer are left out, too: nothing is learned from them, and some templates
    rewrite the answers before a later question.
    """
    start = _first_question(messages)
    previous = ""
    last_answer = 0
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role in ("assistant", "tool") and number <= start:
            continue
        if role == "assistant":
            last_answer = number
        elif role == "tool" and previous not in ("assistant", "tool"):
            raise RowRefused(f"message {number} is a tool's result, but no answer stands before it")
        elif role == "system" and previous:
            raise RowRefused(f"message {number} is a system message; only the first message may be one")
        if role == previous and role != "tool":
            raise RowRefused(f"messages {number - 1} and {number} are both from the {role}")
        previous = role
    if not last_answer:
        raise RowRefused(
            "there is no assistant's turn to learn from"
            if any(message["role"] == "user" for message in messages)
            else "there is no question, only answers"
        )
    if last_answer < len(messages):
        repairs["left out what follows the last answer"] = None
    before = [message for message in messages[:start] if message["role"] == "system"]
    if len(before) < start:
        repairs["left out what stands before the first question"] = None
    return (*before, *messages[start:last_answer])


def _first_question(messages: list[Message]) -> int:
    """Return the index of the first question, or the end where there is none."""
    return next((index for index, message in enumerate(messages) if message["role"] == "user"), len(messages))


def _messages(turns: Any, role_key: str, text_key: str, roles: dict[str, str], repairs: Repairs) -> list[Message]:
    if isinstance(turns, str):
        turns = parsed_json(turns, "the conversation")
        repairs["read the conversation from JSON text"] = None
    if not isinstance(turns, list):
        raise RowRefused(f"the conversation {kind_of(turns)}, not a list")
    if not turns:
        raise RowRefused("the conversation is empty")
    messages = []
    for number, turn in enumerate(turns, 1):
        try:
            role = roles[turn[role_key]]
            content = turn[text_key]
            plain = len(turn) == 2 and type(content) is str and content and not content.isspace()
        except (KeyError, TypeError):
            plain = False
        if plain and turn[role_key] not in _CALLING_ROLES:
            messages.append({"role": role, "content": content})
        elif (message := _unusual_message(turn, number, role_key, text_key, roles, repairs)) is not None:
            messages.append(message)
    return messages


def _unusual_message(
    turn: Any, number: int, role_key: str, text_key: str, roles: dict[str, str], repairs: Repairs
) -> Message | None:
    """Return a message, or None for an empty system message, which is left out."""
    what = f"message {number}"
    if not isinstance(turn, dict):
        raise RowRefused(f"{what} {kind_of(turn)}, not an object")
    name = _named_role(turn, role_key, what)
    role = _role(name, what, roles, repairs)
    if name in _CALLING_ROLES and not turn.get("tool_calls"):
        return {"role": role, "content": "", "tool_calls": calls_of_text(turn.get(text_key), what)}
    calls = tool_calls(turn, what, repairs)
    message: Message = {"role": role, "content": _content(turn, text_key, what, role, bool(calls), repairs)}
    if role == "system" and _is_blank(message["content"]):
        repairs["left out an empty system message"] = None
        return None
    for key in _KEPT_TEXTS:
        if turn.get(key) is not None:
            if not isinstance(turn[key], str):
                raise RowRefused(f"{what}: {key} {kind_of(turn[key])}, not text")
            message[key] = turn[key]
    message |= reasoning_of(turn, what, repairs)
    if (trained := trained_mark(turn, what)) is not None:
        message["trained"] = trained
    if calls:
        if role != "assistant":
            raise RowRefused(f"{what} calls tools, but is from the {role}")
        message["tool_calls"] = calls
    return message


def _named_role(turn: dict[str, Any], role_key: str, what: str) -> str:
    if role_key not in turn:
        raise RowRefused(f"{what} has no '{role_key}'")
    if not isinstance(turn[role_key], str):
        raise RowRefused(f"{what}: '{role_key}' {kind_of(turn[role_key])}, not text")
    return str(turn[role_key])


def _role(name: str, what: str, roles: dict[str, str], repairs: Repairs) -> str:
    if name in roles:
        return roles[name]
    role = _OTHER_ROLES.get(name.strip().lower())
    if role is None:
        raise RowRefused(f"{what} has the unknown role '{shown(name)}'")
    repairs[f"read the role '{shown(name)}' as {role}"] = None
    return role


def _content(turn: dict[str, Any], text_key: str, what: str, role: str, calls: bool, repairs: Repairs) -> str:
    content = turn.get(text_key)
    if content is None:
        if calls:
            return ""
        raise RowRefused(f"{what} ({role}) has no '{text_key}'" if text_key not in turn else f"{what} ({role}) is null")
    if isinstance(content, list):
        content = _joined_parts(content, what, repairs)
    if not isinstance(content, str):
        raise RowRefused(f"{what} ({role}) {kind_of(content)}, not text")
    if _is_blank(content) and not calls and role not in ("system", "tool"):
        raise RowRefused(f"{what} ({role}) is empty")
    return content


def _is_blank(text: str) -> bool:
    return not text or text.isspace()


def _joined_parts(parts: list[Any], what: str, repairs: Repairs) -> str:
    texts = []
    for part in parts:
        if isinstance(part, dict) and part.get("type", "text") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            kind = part.get("type") if isinstance(part, dict) else None
            raise RowRefused(
                f"{what} holds a part of type '{shown(kind)}'; only text can be learned"
                if isinstance(kind, str) and kind != "text"
                else f"{what} is a list of parts, and one of them is no text"
            )
    repairs["joined the text parts of a message"] = None
    return "".join(texts)
