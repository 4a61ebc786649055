"""The form is made of the run config's own fields, tells changes by path, and says each problem at its field."""

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QFocusEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QLineEdit, QWidget

from qlora_studio.core.config.run_config import RunConfig, all_settings
from qlora_studio.core.errors import Problem
from qlora_studio.ui.kit.fields import ComboBox, NumberBox, SpinBox
from qlora_studio.ui.readiness.changes import value_at
from qlora_studio.ui.state.draft import DraftStore
from qlora_studio.ui.training.form import SettingsForm
from qlora_studio.ui.training.setting_line import ListEdit, TableEdit


@pytest.fixture
def form(qapp: QApplication) -> SettingsForm:
    form = SettingsForm()
    for section in {info.section: None for info in all_settings()}:
        form.add_section(
            section, [info for info in all_settings() if info.section == section and info.kind is not dict]
        )
    form.render_config(RunConfig())
    return form


def paths() -> list[str]:
    return [info.path for info in all_settings() if info.kind is not dict]


def texts(line: object) -> str:
    return " ".join(label.text() for label in line.findChildren(QLabel))  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", paths())
def test_a_setting_shows_its_title_help_and_value_and_reads_back_what_it_shows(form: SettingsForm, path: str) -> None:
    line = form.line(path)
    assert line.info.title in texts(line)
    assert line.info.help in texts(line)
    assert path in line.field.toolTip()
    assert line.field.accessibleName() == line.info.title
    assert line.value() == value_at(RunConfig(), path)


@pytest.mark.parametrize("path", paths())
def test_showing_a_config_asks_for_nothing(form: SettingsForm, path: str) -> None:
    told: list[tuple[str, object]] = []
    form.changed.connect(lambda path, value: told.append((path, value)))
    form.render_config(RunConfig().with_value("lora.rank", 64).with_value("evaluation.prompts", ["a", "b"]))
    assert told == []
    assert form.line("lora.rank").value() == 64
    assert form.line("evaluation.prompts").value() == ["a", "b"]


def test_each_kind_of_field_tells_its_path_and_value(form: SettingsForm) -> None:
    told: dict[str, object] = {}
    form.changed.connect(lambda path, value: told.update({path: value}))
    rank, dropout, rate = (
        form.line(f"{name}").field for name in ("lora.rank", "lora.dropout", "training.learning_rate")
    )
    assert isinstance(rank, SpinBox) and isinstance(dropout, NumberBox) and isinstance(rate, QLineEdit)
    QTest.keyClick(rank, Qt.Key.Key_Up)
    dropout.setValue(0.1)
    _type(rate, "1e-4")
    form.line("lora.rslora").field.click()  # type: ignore[attr-defined]
    loss = form.line("training.loss_on").field
    assert isinstance(loss, ComboBox)
    loss.setCurrentIndex(3)
    loss.activated.emit(3)
    assert told == {
        "lora.rank": 17,
        "lora.dropout": 0.1,
        "training.learning_rate": 1e-4,
        "lora.rslora": True,
        "training.loss_on": "all",
    }


def test_a_spin_box_stays_within_the_bounds_of_the_setting(form: SettingsForm) -> None:
    field = form.line("training.max_length").field
    assert isinstance(field, SpinBox)
    assert (field.minimum(), field.maximum()) == (16, 1_048_576)
    assert field.suffix() == " tokens"


def test_advanced_settings_are_folded_until_asked_for_and_where_one_has_a_problem(form: SettingsForm) -> None:
    form.show()
    section = next(item for item in form.sections if "training.scheduler" in item.lines)
    section.show()
    line = form.line("training.scheduler")
    assert not line.isVisibleTo(section)
    section.fold.click()
    assert line.isVisibleTo(section)
    section.fold.click()
    form.render_problems([Problem("training.warmup_ratio", "must be at most 0.5, not 0.9")])
    assert form.line("training.warmup_ratio").isVisibleTo(section)


def test_a_text_that_is_no_number_stays_with_its_problem_until_it_is_corrected(form: SettingsForm) -> None:
    draft = DraftStore()
    form.changed.connect(draft.set_value)
    draft.changed.connect(form.render_config)
    draft.refused.connect(form.render_problems)
    rate = form.line("training.learning_rate").field
    assert isinstance(rate, QLineEdit)
    _type(rate, "fast")
    assert form.line("training.learning_rate").problem() == "must be a number, not 'fast'"
    assert rate.property("invalid") == "true"
    draft.set_value("lora.rank", 32)
    assert rate.text() == "fast"
    assert [problem.field for problem in form.refused()] == ["training.learning_rate"]
    _type(rate, "3e-4")
    assert form.refused() == ()
    assert draft.config.training.learning_rate == 3e-4
    assert not form.line("training.learning_rate").has_problem()


def test_a_refused_text_gives_way_to_the_value_when_a_whole_config_comes_even_the_same(form: SettingsForm) -> None:
    draft = DraftStore()
    form.changed.connect(draft.set_value)
    draft.refused.connect(form.render_problems)
    line = form.line("training.learning_rate")
    assert isinstance(line.field, QLineEdit)
    before = line.field.text()
    _type(line.field, "fast")
    form.forget_refused()
    assert (line.field.text(), line.has_problem()) == (before, False)


def test_all_problems_are_shown_at_their_fields_and_those_without_a_field_come_back(form: SettingsForm) -> None:
    elsewhere = form.render_problems(
        [
            Problem("lora.rank", "must be at least 1, not 0"),
            Problem("data.mapping", "must be a table"),
            Problem("", "x"),
        ]
    )
    assert [problem.field for problem in elsewhere] == ["data.mapping", ""]
    assert "Must be at least 1, not 0" in texts(form.line("lora.rank"))


def test_lists_are_typed_one_text_a_line(form: SettingsForm) -> None:
    told: list[object] = []
    form.changed.connect(lambda _path, value: told.append(value))
    field = form.line("evaluation.prompts").field
    assert isinstance(field, ListEdit)
    field.setPlainText("one\n\n two ")  # without the focus, as a menu's *Paste* that outlived it
    assert told == [["one", "two"]]
    form.line("evaluation.prompts").show_value(["three"])
    assert told == [["one", "two"]]


def test_lines_are_told_when_the_focus_leaves_however_they_came_into_the_field(form: SettingsForm) -> None:
    told: list[object] = []
    form.changed.connect(lambda _path, value: told.append(value))
    line = form.line("evaluation.prompts")
    assert isinstance(line.field, ListEdit)
    line.show_value(["one"])
    _leave(line.field)
    assert told == [], "that is what was shown"
    line.field.setPlainText("two")  # dropped, before the focus came
    _leave(line.field)
    _leave(line.field)
    assert told == [["two"]]
    line.show_value(["one"])  # undone, while the focus is there
    line.field.setPlainText("two")
    _leave(line.field)
    assert told == [["two"], ["two"]]


_TYPED = {
    "lora.rank": ("48", 48),
    "lora.dropout": ("0.25", 0.25),
    "training.learning_rate": ("3e-3", 3e-3),
    "evaluation.prompts": ("Who?", ["Who?"]),
}


@pytest.mark.parametrize("path", _TYPED)
def test_what_is_being_typed_stays_where_another_draft_comes_until_it_is_told_on_top_of_it_or_let_go(
    form: SettingsForm, path: str
) -> None:
    draft, (text, value), field = DraftStore(), _TYPED[path], form.line(path).field
    draft.changed.connect(form.render_config)
    form.changed.connect(draft.set_value)
    other = RunConfig().model_copy(update={"name": "other"})
    for name, another in (("lora.rank", 32), ("lora.dropout", 0.5), ("training.learning_rate", 1e-3)):
        other = other.with_value(name, another)
    other = other.with_value("evaluation.prompts", ["One?", "Two?"])
    _come(form, path)
    _replace(field, text)
    draft.replace(other)  # undone, dropped, or of another window
    assert draft.config == other and _text_of(field) == text
    QTest.keyClick(field, Qt.Key.Key_Escape)
    assert form.line(path).value() == value_at(other, path) and draft.config == other
    _replace(field, text)
    draft.replace(RunConfig())
    assert _text_of(field) == text
    field.clearFocus()
    assert draft.config == RunConfig().with_value(path, value)
    assert form.line(path).value() == value


def test_a_number_that_is_typed_as_it_was_before_another_draft_came_is_told(form: SettingsForm) -> None:
    draft, field = DraftStore(), form.line("lora.rank").field
    draft.changed.connect(form.render_config)
    form.changed.connect(draft.set_value)
    _come(form, "lora.rank")
    _replace(field, "4")
    draft.replace(RunConfig().with_value("lora.rank", 99))
    _replace(field, str(RunConfig().lora.rank))
    field.clearFocus()
    assert draft.config == RunConfig()


def _come(form: SettingsForm, path: str) -> None:
    """Bring a line to the front, and the focus into its field."""
    line = form.line(path)
    line.setParent(None)
    line.show()
    line.activateWindow()
    assert QTest.qWaitForWindowActive(line)
    line.field.setFocus()
    assert line.field.hasFocus()


def _replace(field: QWidget, text: str) -> None:
    QTest.keyClick(field, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(field, text)


def _text_of(field: QWidget) -> str:
    return field.toPlainText() if isinstance(field, ListEdit) else field.text()  # type: ignore[attr-defined]


def _leave(field: QWidget) -> None:
    for kind in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
        QApplication.sendEvent(field, QFocusEvent(kind, Qt.FocusReason.TabFocusReason))


def _type(field: QLineEdit, text: str) -> None:
    field.selectAll()
    QTest.keyClicks(field, text)
    QTest.keyClick(field, Qt.Key.Key_Return)


def test_a_chat_template_that_is_chosen_says_what_it_costs(qapp: QApplication) -> None:
    form = SettingsForm()
    section = form.add_section("data", [info for info in all_settings() if info.path == "data.chat_template"])
    line = form.line("data.chat_template")

    def said() -> str:
        return " ".join(label.text() for label in line.findChildren(QLabel) if label.isVisibleTo(line))

    form.render_config(RunConfig())
    assert "vocabulary" not in said()
    form.render_config(RunConfig().with_value("data.chat_template", "chatml"))
    assert "Refused where the vocabulary lacks <|im_start|> and <|im_end|>" in said()
    combo = line.field
    assert isinstance(combo, ComboBox)
    combo.setCurrentIndex(combo.findData("alpaca"))
    combo.activated.emit(combo.currentIndex())
    assert "the eos token ends an answer" in said()
    section.deleteLater()


def test_the_variables_of_a_template_are_written_one_a_line_and_what_is_none_goes_on_as_it_is(
    qapp: QApplication,
) -> None:
    form = SettingsForm()
    form.add_section("data", [info for info in all_settings() if info.path == "data.template_variables"])
    variables = {"enable_thinking": False, "effort": "low", "level": "3", "tone": " two\nlines", "tags": ["a", "b=c"]}
    form.render_config(RunConfig().with_value("data.template_variables", variables))
    line = form.line("data.template_variables")
    assert isinstance(line.field, TableEdit)
    shown = 'enable_thinking = false\neffort = low\nlevel = "3"\ntone = " two\\nlines"\ntags = ["a", "b=c"]'
    assert line.field.toPlainText() == shown
    assert line.value() == variables
    for text, value in (("date = 1 May", {"date": "1 May"}), ("n=3\n\n", {"n": 3}), ("", {}), ("low", "low")):
        line.field.setPlainText(text)
        assert line.value() == value
