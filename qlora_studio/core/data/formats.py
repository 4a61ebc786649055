"""The formats that rows come in: which one a record looks like, and what it says in that format."""

from collections.abc import Mapping, Sequence
from typing import Any

from qlora_studio.core.data.conversation import Message, chat_messages, checked_order, sharegpt_messages
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.tool_call import tool_schemas
from qlora_studio.core.data.values import Repairs, kind_of, shown, text_of

FORMATS = {
    "messages": "chat messages (role, content)",
    "sharegpt": "ShareGPT (from, value)",
    "alpaca": "Alpaca (instruction, input, output)",
    "prompt_completion": "prompt and completion",
    "question_answer": "two columns",
    "text": "plain text",
}
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


def detect(record: Mapping[str, Any]) -> str:
    """Return the format that a record looks like, or UNKNOWN. A null counts as absent, unless nothing else is there."""
    if type(record.get("messages")) is list:
        return _turns_format(record["messages"])
    found = _detect({name for name, value in record.items() if value is not None}, record)
    return found or _detect(set(record), record)


def convert(record: Mapping[str, Any], form: str, mapping: Mapping[str, str]) -> tuple[Example, str]:
    """Return what a record says in a format, and what was repaired in words. Raises RowRefused."""
    repairs: Repairs = {}
    if form in ("messages", "sharegpt"):
        example = _conversation(record, form, repairs)
    elif form == "text":
        example = Example(text=text_of(*_column(record, mapping.get("text", "text"))))
    elif form == "alpaca":
        example = _alpaca(record, repairs)
    elif form == "prompt_completion" and not mapping:
        example = _prompt_completion(record, repairs)
    else:
        example = _two_columns(record, mapping, repairs)
    return example, ", ".join(repairs)


def form_of_mapping(mapping: Mapping[str, str]) -> str:
    """Return the format that a mapping makes, or UNKNOWN where it has neither text nor both halves of a pair."""
    if mapping.get("text"):
        return "text"
    return "question_answer" if mapping.get("prompt") and mapping.get("completion") else UNKNOWN


def unused_columns(columns: Sequence[str], form: str, mapping: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns that nothing is learned from, of those that the rows of a format have."""
    if form == UNKNOWN:
        return ()
    if any(mapping.values()):
        used = {*mapping.values(), *(() if mapping.get("system") or form == "text" else SYSTEM_COLUMNS)}
    elif form in ("messages", "sharegpt"):
        used = {*CONVERSATION_COLUMNS, *SYSTEM_COLUMNS, "tools"}
    elif form == "alpaca":
        used = {"instruction", "input", "context", "output", "response", "history", *SYSTEM_COLUMNS}
    elif form == "text":
        used = {"text"}
    elif form == "prompt_completion":
        used = {"prompt", "completion", "tools", *SYSTEM_COLUMNS}
    else:
        pair = next((pair for pair in _KNOWN_PAIRS if set(pair) <= set(columns)), ())
        used = {*pair, *SYSTEM_COLUMNS}
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
    return f"this row looks like {FORMATS[looks]}, but the dataset is {FORMATS[form]}"


def _detect(columns: set[str], record: Mapping[str, Any]) -> str:
    for name in CONVERSATION_COLUMNS:
        if name in columns and isinstance(record[name], list | str | None):
            return _turns_format(record[name], default="messages" if name == "messages" else "sharegpt")
    if "instruction" in columns and ("output" in columns or "response" in columns):
        return "alpaca"
    if "prompt" in columns and "completion" in columns:
        return "prompt_completion"
    if any(question in columns and answer in columns for question, answer in _KNOWN_PAIRS):
        return "question_answer"
    return "text" if "text" in columns else UNKNOWN


def _turns_format(turns: Any, default: str = "messages") -> str:
    if isinstance(turns, list) and turns and isinstance(turns[0], dict):
        if "role" in turns[0]:
            return "messages"
        if "from" in turns[0]:
            return "sharegpt"
    return default


def _conversation(record: Mapping[str, Any], form: str, repairs: Repairs) -> Example:
    column = next((name for name in CONVERSATION_COLUMNS if record.get(name) is not None), None)
    if column is None:
        absent = next((name for name in CONVERSATION_COLUMNS if name in record), None)
        raise RowRefused(f"'{absent}' is null" if absent else "there is no column 'messages' or 'conversations'")
    messages = (chat_messages if form == "messages" else sharegpt_messages)(record[column], repairs)
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


def _prompt_completion(record: Mapping[str, Any], repairs: Repairs) -> Example:
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
    for question, answer in _KNOWN_PAIRS:
        if question in record and answer in record:
            return question, answer
    raise RowRefused("no two columns are a question and its answer; choose the columns")


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
