"""What a row of no known format may be: in words, and as the mapping of columns that would have it read."""

from collections.abc import Iterator, Mapping
from typing import Any

from qlora_studio.core.data.conversation import CHAT_ROLES, CONTENT_KEYS, OTHER_ROLES, ROLE_KEYS
from qlora_studio.core.data.formats import CONVERSATION_COLUMNS, convert, form_of_mapping, preference_reason
from qlora_studio.core.data.row_notes import Reading
from qlora_studio.core.data.row_verdict import RowRefused
from qlora_studio.core.data.values import shown

_ROLE_LIKE = (*ROLE_KEYS, "speaker", "author", "sender", "from_role", "who", "user", "name", "type")
_CONTENT_LIKE = (*CONTENT_KEYS, "text", "message", "utterance", "body", "msg", "sentence")


def unknown_reason(record: Mapping[str, Any]) -> str:
    """Return why a record is of no known format, in words."""
    if reason := preference_reason(record):
        return reason
    if "role" in record and "content" in record:
        return "this is a single message (role, content); a row must hold a whole conversation"
    if proposed := proposed_mapping(record):
        parts = ", ".join(f"{part} = {shown(name)}" for part, name in proposed.items())
        return f"the columns fit no known format; it can be read with this mapping of columns: {parts}"
    columns = ", ".join(shown(name) for name in list(record)[:8]) or "none"
    rows = [name for name, value in record.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    inner = f"; the rows may stand in the list '{shown(rows[0])}'" if len(rows) == 1 else ""
    return f"the columns fit no known format; they are: {columns}{inner}"


def proposed_mapping(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the mapping by which a record can be read, where that is plain; else nothing."""
    candidates = (mapping for mapping in _candidates(record) if all(mapping.values()))  # a part may not be named ""
    return next((mapping for mapping in candidates if _reads(record, mapping)), {})


def _candidates(record: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for column in sorted(record, key=lambda name: name not in CONVERSATION_COLUMNS):
        if found := _conversation_mapping(column, record[column]):
            yield found
    texts = [name for name, value in record.items() if isinstance(value, str) and value.strip()]
    if len(texts) == 2 == len(record):
        yield {"prompt": texts[0], "completion": texts[1]}


def _reads(record: Mapping[str, Any], mapping: dict[str, str]) -> bool:
    try:
        convert(record, form_of_mapping(mapping), Reading(mapping))
    except RowRefused:
        return False
    return True


def _conversation_mapping(column: str, turns: Any) -> dict[str, str]:
    """Return how a column is read as a conversation: two or more turns of a role and a text, between two who speak."""
    if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns):
        return {}
    role = next((key for key in _ROLE_LIKE if all(isinstance(turn.get(key), str) for turn in turns)), "")
    content = next((key for key in _CONTENT_LIKE if key != role and all(key in turn for turn in turns)), "")
    names = list(dict.fromkeys(turn[role] for turn in turns)) if role else []
    known = {name: CHAT_ROLES.get(name) or OTHER_ROLES.get(name.strip().lower(), "") for name in names}
    foreign = [name for name, known_role in known.items() if not known_role]
    missing = [part for part in ("user", "assistant") if part not in known.values()]
    if not role or not content or len(foreign) > len(missing) or (foreign and len(foreign) != len(missing)):
        return {}
    mapping = {"conversation": column}
    mapping |= {} if role in ROLE_KEYS else {"role": role}
    mapping |= {} if content in CONTENT_KEYS else {"content": content}
    return mapping | {f"{part}_role": name for part, name in zip(missing, foreign, strict=False)}
