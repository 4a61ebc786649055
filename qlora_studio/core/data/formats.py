"""The formats that rows come in, each once in FORMATS: its words, how it is known, what its rows say."""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from qlora_studio.core.data.content_parts import MEDIA, media_words
from qlora_studio.core.data.conversation import Message, checked_order, messages_of
from qlora_studio.core.data.example import Example
from qlora_studio.core.data.glaive import glaive_messages, glaive_tools, is_glaive
from qlora_studio.core.data.row_notes import Fields, Reading, RowNotes, is_nothing
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.template_variables import variables_of
from qlora_studio.core.data.tool_call import calls_of_text, tool_schemas
from qlora_studio.core.data.values import from_json_text, is_blank, kind_of, number_as_text, shown, text_of
from qlora_studio.core.words import say

AUTO = "auto"
UNKNOWN = ""
# What `data.mapping` may name: columns, keys of a turn, and the names that roles have.
MAPPING_KEYS = (
    "context",
    "prompt",
    "completion",
    "system",
    "text",
    "conversation",
    "tools",
    "role",
    "content",
    "system_role",
    "user_role",
    "assistant_role",
    "tool_role",
)
CONVERSATION_COLUMNS = ("messages", "conversations", "conversation")
QUESTION_COLUMNS = ("question", "query", "prompt", "input", "Question")
ANSWER_COLUMNS = ("answer", "response", "output", "completion", "target", "Answer")
SYSTEM_COLUMNS = ("system", "system_prompt")
_CONVERSATIONS = ("messages", "sharegpt")
_LOOKED_AT = {*CONVERSATION_COLUMNS, "chat"}  # columns that tell a format by what stands in them
# Columns of worse answers, and which other one makes them such.
_WORSE = {"rejected": "chosen", "rejected_response": "", "rejected_messages": "", "non_preferred_output": ""}
_MEDIA_COLUMNS = {name for what, names in MEDIA.items() if what != "a file" for name in names}
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
    What it does not ask for is told as unused.
    """

    title: str
    words: str
    shape: str
    matches: Callable[[set[str], Mapping[str, Any]], bool]
    read: Callable[[Fields, RowNotes], Example]


def format_choices() -> dict[str, str]:
    """Return what a run may say of its rows, in words by name."""
    return {AUTO: say("Auto"), **{name: form.title for name, form in FORMATS.items()}}


def format_words(name: str) -> str:
    """Return what a format is called in a sentence; a name that is not known stands for itself."""
    known = FORMATS.get(name)
    return known.words if known else name or say("no known format")


def detect(record: Mapping[str, Any]) -> str:
    """Return the format that a record looks like, or UNKNOWN. A null counts as absent, unless nothing else is there."""
    if type(record.get("messages")) is list:
        return _turns_format(record["messages"])
    columns = tuple(record)
    if None not in record.values() and not _LOOKED_AT.intersection(columns):
        return _form_of_columns(columns)
    found = _detect({name for name, value in record.items() if value is not None}, record)
    return found or _detect(set(record), record)


def convert(record: Mapping[str, Any], form: str, reading: Reading) -> tuple[Example, RowNotes]:
    """Return what a record says in a format, with what was changed and what was not used. Raises RowRefused."""
    notes, fields = RowNotes(reading), Fields(record)
    if not reading.mapping:
        columns = tuple(record)
        if (others := _beside_conversation(columns)) is not None and form in _CONVERSATIONS:
            return _conversation_alone(record, others, notes)
        if _is_suspect(columns):
            _refuse_other_kinds(record)
    example = FORMATS[form].read(fields, notes)
    if example.text is None and (variables := variables_of(fields, notes)):
        example = replace(example, variables=variables)
    notes.left(fields)
    return example, notes


def form_of_mapping(mapping: Mapping[str, str]) -> str:
    """Return the format that a mapping makes, or UNKNOWN where it names no text, conversation or pair of columns."""
    if mapping.get("text"):
        return "text"
    if mapping.get("conversation"):
        return "messages"
    return "question_answer" if mapping.get("prompt") and mapping.get("completion") else UNKNOWN


def found_mapping(form: str, columns: Sequence[str]) -> dict[str, str]:
    """Return which columns play which part in rows that are read by their format alone, as far as they have any."""
    if form in _CONVERSATIONS:
        column = next((name for name in CONVERSATION_COLUMNS if name in columns), "")
        return {"conversation": column} if column else {}
    pair = ("prompt", "completion") if form == "prompt_completion" else _pair_among(columns)
    if form in ("prompt_completion", "question_answer") and pair:
        return dict(zip(("prompt", "completion"), pair, strict=True))
    return {"text": "text"} if form == "text" and "text" in columns else {}


def preference_reason(record: Mapping[str, Any]) -> str:
    """Return why a row that compares answers is refused, or nothing where it is none."""
    for worse in _WORSE.keys() & record.keys():
        if not is_nothing(record[worse]) and not is_nothing(record.get(_WORSE[worse] or worse)):
            return (
                f"this is preference data (column '{worse}'); only answers to learn from can be used. To learn the "
                "better ones, name their columns in data.mapping"
            )
    return ""


def foreign_reason(looks: str, form: str) -> str:
    """Return why a row of another format than the dataset's is refused."""
    return f"this row looks like {FORMATS[looks].shape}, but the dataset is {FORMATS[form].shape}"


@lru_cache(maxsize=256)
def _beside_conversation(columns: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the other columns where one is a conversation and nothing is read of the others; else None."""
    others = tuple(name for name in columns if name not in CONVERSATION_COLUMNS)
    known = {*SYSTEM_COLUMNS, "tools", "functions", "chat_template_kwargs"}
    plain = len(others) == len(columns) - 1 and known.isdisjoint(others) and not _is_suspect(others)
    return others if plain else None


def _conversation_alone(
    record: Mapping[str, Any], others: tuple[str, ...], notes: RowNotes
) -> tuple[Example, RowNotes]:
    """Read a row that is a conversation and nothing else: what most rows are, so it is done without detours."""
    column = next(name for name in CONVERSATION_COLUMNS if name in record)
    if record[column] is None:
        raise RowRefused(say("'{column}' is null", column=column))
    messages = checked_order(messages_of(record[column], column, notes), notes)
    for name in others:
        if not is_nothing(record[name]):
            notes.unread[name] = None
    return Example(messages, _tools(Fields({}), notes) if notes.turn_tools else ()), notes


@lru_cache(maxsize=256)
def _is_suspect(columns: tuple[str, ...]) -> bool:
    """Whether rows with these columns may be comparisons, or come with pictures or sound; asked once for all rows."""
    return not {*_WORSE, *_MEDIA_COLUMNS, "kto_tag"}.isdisjoint(columns)


def _refuse_other_kinds(record: Mapping[str, Any]) -> None:
    """Raise RowRefused for rows that hold what a text model does not learn from: comparisons, pictures, sound."""
    if reason := preference_reason(record):
        raise RowRefused(reason)
    if record.get("kto_tag") is False:
        raise RowRefused(say("this row is marked as a bad example (kto_tag)"))
    for name in _MEDIA_COLUMNS & record.keys():
        if not is_nothing(record[name]):
            raise RowRefused(
                say(
                    "this row comes with {media} (column '{name}'); only text can be learned. To "
                    "learn the text alone, name the columns in data.mapping",
                    media=media_words(name),
                    name=name,
                )
            )


@lru_cache(maxsize=256)
def _form_of_columns(columns: tuple[str, ...]) -> str:
    """Return the format of rows that are known by the names of their columns alone; asked once for all of them."""
    return _detect(set(columns), {})


def _detect(columns: set[str], record: Mapping[str, Any]) -> str:
    return next((name for name, form in FORMATS.items() if form.matches(columns, record)), UNKNOWN)


def _conversation_format(columns: set[str], record: Mapping[str, Any]) -> str:
    for name in CONVERSATION_COLUMNS:
        if name in columns and isinstance(record[name], list | str | dict | None):
            return _turns_format(record[name], default="messages" if name == "messages" else "sharegpt")
    return UNKNOWN


def _turns_format(turns: Any, default: str = "messages") -> str:
    first = turns[0] if isinstance(turns, list) and turns else turns
    if isinstance(first, dict):
        if "role" in first:
            return "messages"
        if "from" in first:
            return "sharegpt"
    return default


def _conversation(record: Fields, notes: RowNotes) -> Example:
    column = notes.reading.mapping.get("conversation") or next(
        (name for name in CONVERSATION_COLUMNS if record.values.get(name) is not None), None
    )
    if column is None:
        absent = next((name for name in CONVERSATION_COLUMNS if name in record), None)
        raise RowRefused(
            say("'{absent}' is null", absent=absent)
            if absent
            else say("there is no column 'messages' or 'conversations'")
        )
    messages = messages_of(_column(record, column)[0], column, notes)
    system = _system(record, notes)
    return Example(checked_order(_with_system(system, messages, notes), notes), _tools(record, notes))


def _tools(record: Fields, notes: RowNotes) -> tuple[dict[str, Any], ...]:
    """Return the tools of a row: of their column, else of the turns that bring some. Raises RowRefused."""
    value = record.get(notes.reading.mapping.get("tools") or "tools")
    tools = () if value is None else tool_schemas(value, notes)
    if not tools and not is_nothing(functions := record.get("functions")):
        notes.repaired("read functions as tools")
        tools = tool_schemas(functions, RowNotes(notes.reading), "functions")
    for brought in notes.turn_tools:
        notes.repaired("took the tools of a turn for those of the conversation")
        tools += tuple(tool for tool in tool_schemas(brought, notes, "the tools of a turn") if tool not in tools)
    return tools


def _alpaca(record: Fields, notes: RowNotes) -> Example:
    more = _optional(record, ("input", "context"), notes)
    question = record.get("instruction")
    if more and (question is None or question == "" or (isinstance(question, str) and is_blank(question))):
        notes.repaired("took the input for the question, as the instruction is empty")
        question = more
    else:
        question = text_of(*_column(record, "instruction"), notes)
        question = f"{question}\n\n{more}" if more else question
    answer = text_of(*_column(record, "output" if "output" in record else "response"), notes)
    messages = _system(record, notes) + _history(record.get("history"), notes)
    return Example(checked_order([*messages, *_pair(question, answer)], notes))


def _history(history: Any, notes: RowNotes) -> list[Message]:
    if is_nothing(history):
        return []
    history = from_json_text(history, "history", "the history", notes)
    if not isinstance(history, list):
        raise RowRefused(say("history {kind_of}, not a list of pairs", kind_of=kind_of(history)))
    messages = []
    for number, pair in enumerate(history, 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise RowRefused(say("history: entry {number} is not a pair of question and answer", number=number))
        question = text_of(pair[0], f"history: question {number}", notes)
        messages += _pair(question, text_of(pair[1], f"history: answer {number}", notes))
    return messages


def _prompt_completion(record: Fields, notes: RowNotes) -> Example:
    if notes.reading.mapping:
        return _two_columns(record, notes)
    if record.values.get("label") is False:
        raise RowRefused(say("this row is marked as a bad example (label)"))
    prompt, completion = record.values.get("prompt"), record.values.get("completion")
    if not isinstance(prompt, list) and not isinstance(completion, list):
        return _of_pair(record, "prompt", "completion", notes)
    messages = _half(record.get("prompt"), "user", "prompt", notes)
    answers = _half(record.get("completion"), "assistant", "completion", notes)
    if answers and answers[0]["role"] != "assistant":
        raise RowRefused(say("completion does not begin with the assistant's turn"))
    messages = _with_system(_system(record, notes), [*messages, *answers], notes)
    return Example(checked_order(messages, notes), _tools(record, notes))


def _half(value: Any, role: str, name: str, notes: RowNotes) -> list[Message]:
    if isinstance(value, list):
        return messages_of(value, name, notes)
    return [{"role": role, "content": text_of(value, name, notes)}]


def _two_columns(record: Fields, notes: RowNotes) -> Example:
    mapping = notes.reading.mapping
    question, answer = mapping.get("prompt"), mapping.get("completion")
    if not question or not answer:
        question, answer = _known_pair(record)
    return _of_pair(record, question, answer, notes)


def _of_pair(record: Fields, question_column: str, answer_column: str, notes: RowNotes) -> Example:
    mapping = notes.reading.mapping
    question = text_of(*_column(record, question_column), notes)
    if context := _optional(record, (mapping["context"],), notes) if mapping.get("context") else "":
        question = f"{context}\n\n{question}"
    answer = text_of(*_column(record, answer_column), notes)
    messages = _system(record, notes) + _history(record.get("history"), notes)
    return Example(checked_order([*messages, *_pair(question, answer)], notes), _tools(record, notes))


def _xlam(record: Fields, notes: RowNotes) -> Example:
    """Read a question that is answered by calls; the calls and the tools are JSON text there."""
    question = text_of(*_column(record, "query"), notes)
    calls = calls_of_text(record.get("answers"), "answers", "answers[].", notes)
    answer = {"role": "assistant", "content": "", "tool_calls": calls}
    tools = tool_schemas(record.get("tools"), RowNotes(notes.reading))
    messages = [*_system(record, notes), {"role": "user", "content": question}, answer]
    return Example(checked_order(messages, notes), tools)


def _glaive(record: Fields, notes: RowNotes) -> Example:
    system, tools = glaive_tools(_optional(record, SYSTEM_COLUMNS, notes))
    spoken = [{"role": "system", "content": system}] if system else []
    return Example(checked_order([*spoken, *glaive_messages(record.get("chat"), notes)], notes), tools)


def _text(record: Fields, notes: RowNotes) -> Example:
    column = notes.reading.mapping.get("text") or "text"
    return Example(text=text_of(*_column(record, column), notes))


def _known_pair(record: Fields) -> tuple[str, str]:
    question, answer = _pair_among(record) or ("", "")
    if not question:
        raise RowRefused(say("no two columns are a question and its answer; choose the columns"))
    return question, answer


def _pair_among(columns: Container[str]) -> tuple[str, ...]:
    return next((pair for pair in _KNOWN_PAIRS if pair[0] in columns and pair[1] in columns), ())


def _column(record: Fields, name: str) -> tuple[Any, str]:
    if name not in record:
        raise RowRefused(say("there is no column '{shown}'", shown=shown(name)))
    return record.get(name), f"'{shown(name)}'"


def _optional(record: Fields, names: tuple[str, ...], notes: RowNotes) -> str:
    """Return the first of the columns that holds something, or an empty text."""
    for name in names:
        if (value := record.get(name)) is None:
            continue
        if not isinstance(value, str):
            value = number_as_text(value, notes)
        if not isinstance(value, str):
            raise RowRefused(say("'{shown}' {kind_of}, not text", shown=shown(name), kind_of=kind_of(value)))
        if value and not value.isspace():
            return value
    return ""


def _system(record: Fields, notes: RowNotes) -> list[Message]:
    column = notes.reading.mapping.get("system")
    system = _optional(record, (column,) if column else SYSTEM_COLUMNS, notes)
    return [{"role": "system", "content": system}] if system else []


def _with_system(system: list[Message], messages: list[Message], notes: RowNotes) -> list[Message]:
    """Return a conversation with the system text of its row: in front of one that it has itself."""
    if not system or messages[0]["role"] != "system":
        return [*system, *messages]
    if system[0]["content"] == messages[0]["content"]:
        return messages
    notes.repaired("put the system text of the row in front of that of the conversation")
    both = f"{system[0]['content']}\n\n{messages[0]['content']}"
    return [{**messages[0], "content": both}, *messages[1:]]


def _pair(question: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


FORMATS: dict[str, DatasetFormat] = {  # a row that fits several is of the first of them
    "messages": DatasetFormat(
        title=say("Chat messages"),
        words=say("chat messages"),
        shape=say("chat messages (role, content)"),
        matches=lambda columns, record: _conversation_format(columns, record) == "messages",
        read=_conversation,
    ),
    "sharegpt": DatasetFormat(
        title=say("ShareGPT"),
        words=say("ShareGPT conversations"),
        shape=say("ShareGPT (from, value)"),
        matches=lambda columns, record: _conversation_format(columns, record) == "sharegpt",
        read=_conversation,
    ),
    "alpaca": DatasetFormat(
        title=say("Alpaca"),
        words=say("Alpaca instructions"),
        shape=say("Alpaca (instruction, input, output)"),
        matches=lambda columns, _record: "instruction" in columns and not columns.isdisjoint({"output", "response"}),
        read=_alpaca,
    ),
    "prompt_completion": DatasetFormat(
        title=say("Prompt and completion"),
        words=say("prompt and completion"),
        shape=say("prompt and completion"),
        matches=lambda columns, _record: columns >= {"prompt", "completion"},
        read=_prompt_completion,
    ),
    "xlam": DatasetFormat(
        title=say("xLAM"),
        words=say("questions with the calls that answer them"),
        shape=say("xLAM (query, answers, tools)"),
        matches=lambda columns, _record: columns >= {"query", "answers", "tools"},
        read=_xlam,
    ),
    "glaive": DatasetFormat(
        title=say("Glaive function calling"),
        words=say("conversations in one text"),
        shape=say("glaive (system, chat)"),
        matches=lambda _columns, record: is_glaive(record),
        read=_glaive,
    ),
    "question_answer": DatasetFormat(
        title=say("Two columns"),
        words=say("two columns"),
        shape=say("two columns"),
        matches=lambda columns, _record: bool(_pair_among(columns)),
        read=_two_columns,
    ),
    "text": DatasetFormat(
        title=say("Plain text"),
        words=say("plain text"),
        shape=say("plain text"),
        matches=lambda columns, _record: "text" in columns,
        read=_text,
    ),
}
