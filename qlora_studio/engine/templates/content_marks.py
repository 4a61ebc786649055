"""Marks put into the contents of a conversation, to see where a template puts them."""

import re
from collections.abc import Sequence

from qlora_studio.engine.templates.chat_template import Message


class ContentMarks:
    """Messages whose contents carry a mark at each end, inside of the white space that templates trim."""

    def __init__(self, messages: Sequence[Message]) -> None:
        nonce = "Qx7c1e"
        while any(nonce in str(message.get("content")) for message in messages):
            nonce += "9"
        self._mark = re.compile(rf"{nonce}([AB])(\d+)Z")
        self.messages = [self._marked(message, nonce, index) for index, message in enumerate(messages)]

    def positions(self, marked: str, text: str) -> dict[int, tuple[int | None, int]] | None:
        """Return where each content stands in `text`, or None where the marks changed more than themselves."""
        pieces: list[str] = []
        found: dict[str, dict[int, int]] = {"A": {}, "B": {}}
        done = length = 0
        for match in self._mark.finditer(marked):
            pieces.append(marked[done : match.start()])
            length += len(pieces[-1])
            done = match.end()
            index = int(match.group(2))
            if index in found[match.group(1)]:
                return None  # rendered twice: which one is the answer?
            found[match.group(1)][index] = length
        pieces.append(marked[done:])
        if "".join(pieces) != text:
            return None
        # A template that splits the content (at </think>) may lose the first mark: the answer's header tells its start.
        return {index: (found["A"].get(index), end) for index, end in found["B"].items()}

    @staticmethod
    def _marked(message: Message, nonce: str, index: int) -> Message:
        content = message.get("content")
        if not isinstance(content, str) or not content.strip():
            return message
        core = content.strip()
        if message["role"] == "assistant":  # reasoning in the content goes a way of its own, if it is kept at all
            core = core.rpartition("</think>")[2].strip() or core
        lead, trail = content[: content.rindex(core)], content[content.rindex(core) + len(core) :]
        return {**message, "content": f"{lead}{nonce}A{index}Z{core}{nonce}B{index}Z{trail}"}
