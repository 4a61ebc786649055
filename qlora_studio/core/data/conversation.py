"""A conversation as it stands in a dataset, as messages of one shape; every change is named, or it is refused."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from qlora_studio.core.data.content_parts import Content, is_parts, joined_parts, result_text
from qlora_studio.core.data.reasoning import REASONING_KEYS, reasoning_of
from qlora_studio.core.data.row_notes import Fields, RowNotes, is_nothing
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import CALL_KEYS, calls_of_text, tool_calls
from qlora_studio.core.data.turn_marks import MARK_KEYS, trained_mark
from qlora_studio.core.data.values import from_json_text, is_blank, kind_of, number_as_text, shown
from qlora_studio.core.words import say

Message = dict[str, Any]

ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value")
CHAT_ROLES = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CALLING_ROLES = ("function_call", "tool_call", "tool_use", "tool_calls")
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
# Names that are read as a role and told, beside those that a format has by itself.
OTHER_ROLES = (
    SHAREGPT_ROLES
    | dict.fromkeys(_CALLING_ROLES, "assistant")
    | {
        "developer": "system",
        "function": "tool",
        "ipython": "tool",
        "tool_response": "tool",
        "tool_result": "tool",
        "tool_output": "tool",
        "environment": "tool",
        "ai": "assistant",
        "bing": "assistant",
        "bard": "assistant",
        "answer": "assistant",
        "response": "assistant",
        "prompter": "user",
        "question": "user",
        "prompt": "user",
    }
)
_TEXT_KEYS = {"name": ("name", "tool_name"), "tool_call_id": ("tool_call_id", "tool_use_id", "call_id")}
_ALL_TEXT_KEYS = frozenset(name for names in _TEXT_KEYS.values() for name in names)


class _Keys(NamedTuple):
    """Under which keys turns have role and content, and what the roles are called."""

    role: str
    content: str
    roles: Mapping[str, str]


_CHAT_KEYS = _Keys("role", "content", CHAT_ROLES)
_SHAREGPT_KEYS = _Keys("from", "value", SHAREGPT_ROLES)


def messages_of(turns: Any, column: str, notes: RowNotes) -> list[Message]:
    """Return the messages of the turns that stand in a column. Raises RowRefused."""
    turns = _listed(from_json_text(turns, "the conversation", "the conversation", notes), notes)
    keys = _keys(turns[0], notes)
    role_key, text_key, roles = keys
    messages: list[Message] = []
    calling = False
    for number, turn in enumerate(turns, 1):
        try:
            role = roles[turn[role_key]]
            content = turn[text_key]
            plain = len(turn) == 2 and type(content) is str and content and not content.isspace()
        except (KeyError, TypeError):
            plain = False
        if plain and turn[role_key] not in _CALLING_ROLES:
            messages.append({"role": role, "content": content})
            calling = False
        else:
            read = _Turn(turn, f"message {number}", f"{column}[].", notes)
            calling = read.add_to(messages, keys, after_call=calling)
    return messages


def checked_order(messages: list[Message], notes: RowNotes) -> tuple[Message, ...]:
    """Return the messages up to the last answer. Raises RowRefused where there is none.

    In which order roles may follow is the chat template's to say. Turns after the last answer are left out: nothing is
    learned from them, and some templates rewrite the answers before a later question.
    """
    if messages and messages[-1]["role"] == "assistant":
        return tuple(messages)
    last = max((number for number, message in enumerate(messages, 1) if message["role"] == "assistant"), default=0)
    if not last:
        raise RowRefused(say("there is no assistant's turn to learn from"))
    if last < len(messages):
        notes.repaired("left out what follows the last answer")
    return tuple(messages[:last])


def _listed(turns: Any, notes: RowNotes) -> list[Any]:
    """Return the turns one by one. `datasets` of old kept them as an object of lists. Raises RowRefused."""
    if isinstance(turns, dict):
        columns = [value for value in turns.values() if isinstance(value, list)]
        if len(columns) == len(turns) > 1 and len({len(column) for column in columns}) == 1:
            notes.repaired("read the conversation from an object of lists")
            turns = [dict(zip(turns, values, strict=True)) for values in zip(*columns, strict=True)]
    if not isinstance(turns, list):
        raise RowRefused(say("the conversation {kind_of}, not a list", kind_of=kind_of(turns)))
    if not turns:
        raise RowRefused(say("the conversation is empty"))
    if all(isinstance(turn, str) and not turn.lstrip().startswith("{") for turn in turns):
        notes.repaired("read texts that follow each other as question and answer")
        roles = ("user", "assistant") * len(turns)
        return [{"role": role, "content": turn} for role, turn in zip(roles, turns, strict=False)]
    return list(turns)


def _keys(turn: Any, notes: RowNotes) -> _Keys:
    """Return the keys that the user named, or those that a turn has."""
    if not notes.reading.mapping and isinstance(turn, dict):
        if "role" in turn and "content" in turn:
            return _CHAT_KEYS
        if "from" in turn and "value" in turn:
            return _SHAREGPT_KEYS
    mapping, names = notes.reading.mapping, turn if isinstance(turn, dict) else {}
    role = mapping.get("role") or next((key for key in ROLE_KEYS if key in names), "role")
    roles = SHAREGPT_ROLES if role == "from" else CHAT_ROLES
    fallback = "value" if role == "from" else "content"
    content = mapping.get("content") or next((key for key in CONTENT_KEYS if key in names), fallback)
    return _Keys(role, content, {**roles, **own} if (own := notes.reading.roles) else roles)


class _Present(NamedTuple):
    """What a turn may have beside role and content."""

    texts: bool
    reasoning: bool
    marks: bool
    calls: bool
    tools: bool


@lru_cache(maxsize=1024)
def _present(names: tuple[str, ...]) -> _Present:
    """Return what a turn with these keys may have: turns have few sets of keys, and there are many turns."""
    groups = (_ALL_TEXT_KEYS, REASONING_KEYS, MARK_KEYS, CALL_KEYS, frozenset({"tools"}))
    return _Present(*(not group.isdisjoint(names) for group in groups))


class _Turn:
    """A turn that is more than a role and a text. `what` names it in words, `path` in the list of what nobody read."""

    def __init__(self, turn: Any, what: str, path: str, notes: RowNotes) -> None:
        value = from_json_text(turn, what, "a message", notes)
        if not isinstance(value, dict):
            raise RowRefused(say("{what} {kind_of}, not an object", what=what, kind_of=kind_of(value)))
        self._fields, self._what, self._path, self._notes = Fields(value), what, path, notes
        self._present = _present(tuple(value))

    def add_to(self, messages: list[Message], keys: _Keys, *, after_call: bool) -> bool:
        """Add what the turn says: mostly a message; none for an empty system message, several for results of tools.

        Return whether it is a call by its role; one `after_call` joins the one before. Raises RowRefused.
        """
        role_key, text_key = self._key(keys.role, ROLE_KEYS), self._key(keys.content, CONTENT_KEYS)
        name = self._role_name(role_key)
        role = self._role(name, keys.roles)
        calling = name in _CALLING_ROLES and is_nothing(self._fields.values.get("tool_calls"))
        content = self._calls_alone(text_key) if calling else self._content(text_key, role)
        message: Message = {"role": role, "content": "" if content.text is None else content.text}
        message |= self._more(content)
        self._keep(message)
        if "name" in message and role != "tool":  # few templates say who speaks
            self._notes.unread[f"{self._path}name"] = None
        messages += content.results
        if role == "system" and is_blank(message["content"]):
            self._notes.repaired("left out an empty system message")
        elif calling and after_call:
            messages[-1]["tool_calls"] += content.calls
            self._notes.repaired("put calls that follow each other into one turn")
        elif content.text is not None or not content.results:
            messages.append(message)
        return calling

    def _key(self, wanted: str, known: tuple[str, ...]) -> str:
        return wanted if wanted in self._fields else next((key for key in known if key in self._fields), wanted)

    def _role_name(self, role_key: str) -> str:
        if role_key not in self._fields:
            raise RowRefused(say("{what} has no '{role_key}'", what=self._what, role_key=role_key))
        name = self._fields.get(role_key)
        if not isinstance(name, str):
            raise RowRefused(
                say(
                    "{what}: '{role_key}' {kind_of}, not text",
                    what=self._what,
                    role_key=role_key,
                    kind_of=kind_of(name),
                )
            )
        return name

    def _role(self, name: str, roles: Mapping[str, str]) -> str:
        if name in roles:
            return roles[name]
        role = OTHER_ROLES.get(name.strip().lower())
        if role is None:
            raise RowRefused(say("{what} has the unknown role '{shown}'", what=self._what, shown=shown(name)))
        self._notes.repaired(f"read the role '{shown(name)}' as {role}")
        return role

    def _calls_alone(self, text_key: str) -> Content:
        return Content(calls=calls_of_text(self._fields.get(text_key), self._what, self._path, self._notes))

    def _content(self, text_key: str, role: str) -> Content:
        """Return what the turn says. Raises RowRefused where that is nothing, or nothing that can be learned."""
        value = self._fields.get(text_key)
        what = f"{self._what} ({role})"
        content = Content(text=value)
        if isinstance(value, list) and (role != "tool" or is_parts(value)):
            content = joined_parts(value, self._what, f"{self._path}{text_key}[].", self._notes)
        elif role == "tool":
            content.text = result_text(value, self._notes)
        else:
            content.text = number_as_text(value, self._notes)
        if self._present.calls:
            content.calls += tool_calls(self._fields, self._what, self._path, self._notes)
        if content.calls and role != "assistant":
            raise RowRefused(say("{what} calls tools, but is from the {role}", what=self._what, role=role))
        if content.text is None:
            if not content.calls and not content.results:
                raise RowRefused(
                    say("{what} is null", what=what)
                    if text_key in self._fields
                    else say("{what} has no '{text_key}'", what=what, text_key=text_key)
                )
        elif not isinstance(content.text, str):
            raise RowRefused(say("{what} {kind_of}, not text", what=what, kind_of=kind_of(content.text)))
        elif is_blank(content.text) and not content.calls and role not in ("system", "tool"):
            raise RowRefused(say("{what} is empty", what=what))
        return content

    def _more(self, content: Content) -> Message:
        """Return what a message has beside role and content."""
        message: Message = {}
        for key, names in _TEXT_KEYS.items() if self._present.texts else ():
            if (value := number_as_text(self._fields.first(*names), self._notes)) is not None:
                if not isinstance(value, str):
                    raise RowRefused(
                        say("{what}: {key} {kind_of}, not text", what=self._what, key=key, kind_of=kind_of(value))
                    )
                message[key] = value
        if self._present.reasoning:
            message |= reasoning_of(self._fields, self._what, self._notes)
        if content.reasoning:
            message.setdefault("reasoning_content", "".join(content.reasoning))
        if self._present.marks and (trained := trained_mark(self._fields, self._what)) is not None:
            message["trained"] = trained
        if content.calls:
            message["tool_calls"] = content.calls
        if self._present.tools and "tools" not in self._notes.reading.template_keys:
            self._notes.turn_tools += (self._fields.get("tools"),)
        return message

    def _keep(self, message: Message) -> None:
        """Keep what the chat template reads of what nobody asked for, and note all of it."""
        if not self._fields.may_be_unread:
            return
        self._notes.left(self._fields, self._path)
        for key in self._fields.unread():
            if key in self._notes.reading.template_keys and key not in message:
                message[key] = self._fields.values[key]
