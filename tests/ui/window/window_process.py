"""The window in a process of its own, as `qlora-studio` opens it, where somebody starts the draft as soon as it can be.

Python starts it with `-m tests.ui.window.window_process`; the settings file says which model and data were chosen last.
"""

import sys

from qlora_studio.ui.app import AppWindow, new_application
from tests.ui.window_driver import Person


def main() -> int:
    """Open the window, press Start, and stay until somebody ends this process."""
    app = new_application()
    app_window = AppWindow()
    person = Person(app_window)
    app_window.show()
    person.sit_down()
    person.go_to("Training")
    person.tick("Merge at the end", False)
    person.wait(lambda: person.reads("tiny-llama"), "the model of last time")
    person.click("Start training")
    person.wait(lambda: person.window.current_page().title == "Run", "the Run page")
    return int(app.exec())


if __name__ == "__main__":
    sys.exit(main())
