"""The strip over a run that is not trusted: it can be looked at, and says what it takes for more."""

from qlora_studio.core.words import say
from qlora_studio.ui.kit.widgets import Button, Notice

_ADVICE = say(
    "It can be looked at. Resume, queue, export and chat wait until you have seen what it would "
    "do, and trust it. If you made or changed it yourself, that is all there is to do."
)


class DistrustNotice(Notice):
    """Says why a run may give no orders; hidden where it may. `trust` is the button to look at them."""

    def __init__(self) -> None:
        super().__init__("warn")
        self.trust = Button(say("Trust this run …"), "small", tip=say("See what it would load, read and write here"))
        self.add_action(self.trust)

    def render_objection(self, words: str) -> None:
        """Show why, or nothing."""
        if words != self.message.text():
            self.show_message(words, _ADVICE)
