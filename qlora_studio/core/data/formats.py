"""The formats that rows come in, each once in FORMATS: its words, how it is known, what its rows say."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qlora_studio.core.data.conversation import Message, chat_messages, checked_order, sharegpt_messages
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import tool_schemas
from qlora_studio.core.data.values import Repairs, kind_of, shown, text_of

MessagesOf = Callable[[Any, Repairs], list[Message]]

AUTO = "auto"
UNKNOWN = ""
MAPPING_KEYS = ("context", "prompt", "completion", "system", "text")
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
QUESTION_COLUMNS = ("question", "query", "prompt", "input", "Question")
ANSWER_COLUMNS = ("answer", "response", "output", "completion", "target", "Answer")
SYSTEM_COLUMNS = ("system", "system_prompt")
# A pair in one row means two columns only where nothing else could be meant: `input` and `output`, say, need no guess.
_FEW_COLUMNS = 4
_KNOWN_PAIRS = tuple(
    (question, answer)
    for question in QUESTION_COLUMNS
    for answer in ANSWER_COLUMNS
    if (question, answer) != ("prompt", "completion")
)


@dataclass(frozen=True, kw_only=True)
class DatasetFormat:
    """A format of rows. `title` stands in a chooser, `words` in a sentence, `shape` where a row of another is refused.

    `matches` knows a row by the names of its columns and itself, `read` returns what it says, or raises RowRefused.
    `columns` are those that rows of these columns are read from, but for a system text, where it `takes_system`.
    """

    title: str
    words: str
    shape: str
    matches: Callable[[set[str], Mapping[str, Any]], bool]
    read: Callable[[Mapping[str, Any], Mapping[str, str], Repairs], Example]
    columns: Callable[[Sequence[str]], Sequence[str]]
    takes_system: bool = True


def format_choices() -> dict[str, str]:
    """Return what a run may say of its rows, in words by name."""
    return {AUTO: "Auto", **{name: form.title for name, form in FORMATS.items()}}


def format_words(name: str) -> str:
    """Return what a format is called in a sentence; a name that is not known stands for itself."""
    known = FORMATS.get(name)
    return known.words if known else name or "a format that is not known"


def detect(record: Mapping[str, Any]) -> str:
    """Return the format that a record looks like, or UNKNOWN. A null counts as absent, unless nothing else is there."""
    if type(record.get("messages")) is list:
        return _turns_format(record["messages"])
    found = _detect({name for name, value in record.items() if value is not None}, record)
    return found or _detect(set(record), record)


def convert(record: Mapping[str, Any], form: str, mapping: Mapping[str, str]) -> tuple[Example, str]:
    """Return what a record says in a format, and what was repaired in words. Raises RowRefused."""
    repairs: Repairs = {}
    return FORMATS[form].read(record, mapping, repairs), ", ".join(repairs)


def form_of_mapping(mapping: Mapping[str, str]) -> str:
    """Return the format that a mapping makes, or UNKNOWN where it has neither text nor both halves of a pair."""
    if mapping.get("text"):
        return "text"
    return "question_answer" if mapping.get("prompt") and mapping.get("completion") else UNKNOWN


def unused_columns(columns: Sequence[str], form: str, mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that nothing is learned from, of those that the rows of a format have."""
    if form == UNKNOWN:
        return ()
    known = FORMATS[form]
    used = {*mapping.values()} if any(mapping.values()) else {*known.columns(columns)}
    if known.takes_system and not mapping.get("system"):
        used |= {*SYSTEM_COLUMNS}
    return tuple(name for name in columns if name not in used)


def unknown_reason(record: Mapping[str, Any]) -> str:
    """Return why a record is of no known format, in words."""
    if "chosen" in record and "rejected" in record:
        return "this is preference data (chosen, rejected); only answers to learn from can be used"
    if "role" in record and "content" in record:
        return "this is a single message (role, content); a row must hold a whole conversation"
    rows = [name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(rows) == 1 and len(record) <= _FEW_COLUMNS:
        return f"the rows seem to stand in the list '{shown(rows[0])}': save that list alone"
    columns = ", ".join(shown(name) for name in list(record)[:8]) or "none"
    return f"the columns fit no known format; they are: {columns}"


def foreign_reason(looks: str, form: str) -> str:
    """Return why a row of another format than the dataset's is refused."""
    return f"this row looks like {FORMATS[looks].shape}, but the dataset is {FORMATS[form].shape}"


def _detect(columns: set[str], record: Mapping[str, Any]) -> str:
    return next((name for name, form in FORMATS.items() if form.matches(columns, record)), UNKNOWN)


def _conversation_format(columns: set[str], record: Mapping[str, Any]) -> str:
    for name in CONVERSATION_COLUMNS:
        if name in columns and isinstance(record[name], list | str | None):
            return _turns_format(record[name], default="messages" if name == "messages" else "sharegpt")
    return UNKNOWN


def _turns_format(turns: Any, default: str = "messages") -> str:
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        if "role" in turns[0]:
            return "messages"
        if "from" in turns[0]:
            return "sharegpt"
    return default


def _conversation(record: Mapping[str, Any], messages_of: MessagesOf, repairs: Repairs) -> Example:
    column = next((name for name in CONVERSATION_COLUMNS if record.get(name) is not None), None)
    if column is None:
        absent = next((name for name in CONVERSATION_COLUMNS if name in record), None)
        raise RowRefused(f"'{absent}' is null" if absent else "there is no column 'messages' or 'conversations'")
    messages = messages_of(record[column], repairs)
    if messages and messages[0]["role"] != "system":
        messages = _system(record, SYSTEM_COLUMNS) + messages
    return Example(checked_order(messages, repairs), tool_schemas(record.get("tools"), repairs))


def _alpaca(record: Mapping[str, Any], repairs: Repairs) -> Example:
    question = text_of(*_column(record, "instruction"))
    more = _optional(record, ("input", "context"))
    answer = text_of(*_column(record, "output" if "output" in record else "response"))
    if more:
        question = f"{question}\n\n{more}"
    messages = _system(record, SYSTEM_COLUMNS) + _history(record.get("history"))
    return Example(checked_order([*messages, *_pair(question, answer)], repairs))


def _history(history: Any) -> list[Message]:
    if history is None or history == "":
        return []
    if not isinstance(history, list):
        raise RowRefused(f"history {kind_of(history)}, not a list of pairs")
    messages = []
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowRefused(f"history: entry {number} is not a pair of question and answer")
        messages += _pair(
            text_of(pair[0], f"history: question {number}"), text_of(pair[1], f"history: answer {number}")
        )
    return messages


def _prompt_completion(record: Mapping[str, Any], mapping: Mapping[str, str], repairs: Repairs) -> Example:
    if mapping:
        return _two_columns(record, mapping, repairs)
    prompt, completion = record.get("prompt"), record.get("completion")
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return _two_columns(record, {"prompt": "prompt", "completion": "completion"}, repairs)
    messages = _half(prompt, "user", "prompt", repairs)
    answers = _half(completion, "assistant", "completion", repairs)
    if answers and answers[0]["role"] != "assistant":
        raise RowRefused("completion does not begin with the assistant's turn")
    return Example(checked_order([*messages, *answers], repairs), tool_schemas(record.get("tools"), repairs))


def _half(value: Any, role: str, name: str, repairs: Repairs) -> list[Message]:
    if isinstance(value, list):
        return chat_messages(value, repairs)
    return [{"role": role, "content": text_of(value, name)}]


def _two_columns(record: Mapping[str, Any], mapping: Mapping[str, str], repairs: Repairs) -> Example:
    question_column, answer_column = mapping.get("prompt"), mapping.get("completion")
    if not question_column or not answer_column:
        question_column, answer_column = _known_pair(record)
    system_columns = (mapping["system"],) if mapping.get("system") else SYSTEM_COLUMNS
    question = text_of(*_column(record, question_column))
    if context := _optional(record, (mapping["context"],)) if mapping.get("context") else "":
        question = f"{context}\n\n{question}"
    answer = text_of(*_column(record, answer_column))
    return Example(checked_order([*_system(record, system_columns), *_pair(question, answer)], repairs))


def _known_pair(record: Mapping[str, Any]) -> tuple[str, str]:
    question, answer = _pair_among(record) or ("", "")
    if not question:
        raise RowRefused("no two columns are a question and its answer; choose the columns")
    return question, answer


def _pair_among(columns: Container[str]) -> tuple[str, ...]:
    return next((pair for pair in _KNOWN_PAIRS if pair[0] in columns and pair[1] in columns), ())


def _column(record: Mapping[str, Any], name: str) -> tuple[Any, str]:
    if name not in record:
        raise RowRefused(f"there is no column '{shown(name)}'")
    return record[name], f"'{shown(name)}'"


def _optional(record: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """Return the first of the columns that holds something, or an empty text."""
    for name in names:
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            raise RowRefused(f"'{shown(name)}' {kind_of(value)}, not text")
        if value and not value.isspace():
            return value
    return ""


def _system(record: Mapping[str, Any], names: tuple[str, ...]) -> list[Message]:
    system = _optional(record, names)
    return [{"role": "system", "content": system}] if system else []


def _pair(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


FORMATS: dict[str, DatasetFormat] = {  # a row that fits several is of the first of them
    "messages": DatasetFormat(
        title="Chat messages",
        words="chat messages",
        shape="chat messages (role, content)",
        matches=lambda columns, record: _conversation_format(columns, record) == "messages",
        read=lambda record, _mapping, repairs: _conversation(record, chat_messages, repairs),
        columns=lambda _columns: (*CONVERSATION_COLUMNS, "tools"),
    ),
    "sharegpt": DatasetFormat(
        title="ShareGPT",
        words="ShareGPT conversations",
        shape="ShareGPT (from, value)",
        matches=lambda columns, record: _conversation_format(columns, record) == "sharegpt",
        read=lambda record, _mapping, repairs: _conversation(record, sharegpt_messages, repairs),
        columns=lambda _columns: (*CONVERSATION_COLUMNS, "tools"),
    ),
    "alpaca": DatasetFormat(
        title="Alpaca",
        words="Alpaca instructions",
        shape="Alpaca (instruction, input, output)",
        matches=lambda columns, _record: "instruction" in columns and not columns.isdisjoint({"output", "response"}),
        read=lambda record, _mapping, repairs: _alpaca(record, repairs),
        columns=lambda _columns: ("instruction", "input", "context", "output", "response", "history"),
    ),
    "prompt_completion": DatasetFormat(
        title="Prompt and completion",
        words="prompt and completion",
        shape="prompt and completion",
        matches=lambda columns, _record: columns >= {"prompt", "completion"},
        read=_prompt_completion,
        columns=lambda _columns: ("prompt", "completion", "tools"),
    ),
    "question_answer": DatasetFormat(
        title="Two columns",
        words="two columns",
        shape="two columns",
        matches=lambda columns, _record: bool(_pair_among(columns)),
        read=_two_columns,
        columns=_pair_among,
    ),
    "text": DatasetFormat(
        title="Plain text",
        words="plain text",
        shape="plain text",
        matches=lambda columns, _record: "text" in columns,
        read=lambda record, mapping, _repairs: Example(text=text_of(*_column(record, mapping.get("text", "text")))),
        columns=lambda _columns: ("text",),
        takes_system=False,
    ),
}
