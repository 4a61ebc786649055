"""The style sheet of both themes: one text over roles of the palette, on a grid of 8 pixels.

It gives no widget a font: `fonts.wear_text` does, so that neither colours nor the size of text need another sheet.
"""

from collections.abc import Mapping
from string import Template

from qlora_studio.storage.resources import resource

_TEMPLATE = Template("""
* { outline: none; }
QWidget { color: $text; }
QMainWindow, QDialog, QWidget[surface="background"] { background: $background; }
QWidget[surface="panel"], QStackedWidget[surface="panel"] { background: $panel; }
QWidget[surface="clear"], QScrollArea, QScrollArea > QWidget { background: transparent; border: none; }
QToolTip { background: $panel; color: $text; border: 1px solid $control_line; padding: 6px 8px; }

QLabel { background: transparent; }
QLabel[role="subtitle"] { color: $muted; }
QLabel[role="muted"] { color: $muted; }
QLabel[role="caption"] { color: $muted; }
QLabel[tone="ok"] { color: $ok; }
QLabel[tone="warn"] { color: $warn; }
QLabel[tone="bad"] { color: $bad; }
QLabel[tone="accent"] { color: $accent; }
QLabel[tone="muted"] { color: $muted; }

QFrame[card="true"] { background: $panel; border: 1px solid $line; border-radius: 8px; }
QFrame[card="plain"] { background: $panel; border: none; }
QFrame[notice="info"] { background: $selection; border: 1px solid $line; border-radius: 8px; }
QFrame[notice="warn"] { background: $warn_surface; border: 1px solid $warn; border-radius: 8px; }
QFrame[notice="bad"] { background: $bad_surface; border: 1px solid $bad; border-radius: 8px; }
QFrame[rule="true"] { background: $line; border: none; min-height: 1px; max-height: 1px; }

QLabel[chip] { border: 1px solid $line; border-radius: 9px; padding: 0 8px; min-height: 18px;
  color: $muted; }
QLabel[chip="ok"] { color: $ok; }
QLabel[chip="warn"] { color: $warn; border-color: $warn; }
QLabel[chip="bad"] { color: $bad; border-color: $bad; }
QLabel[chip="accent"] { color: $accent; border-color: $accent; }

QPushButton { background: $panel; color: $text; border: 1px solid $control_line; border-radius: 6px;
  padding: 0 14px; min-height: 30px; }
QPushButton:hover { background: $hover; }
QPushButton:pressed { background: $line; }
QPushButton:focus { border: 2px solid $accent; padding: 0 13px; min-height: 28px; }
QPushButton:disabled { color: $muted; background: transparent; border-color: $line; }
QPushButton[kind="primary"] { background: $accent; color: $accent_text; border-color: $accent; }
QPushButton[kind="primary"]:hover { background: $accent_hover; border-color: $accent_hover; }
QPushButton[kind="primary"]:focus { border: 2px solid $text; }
QPushButton[kind="primary"]:disabled { background: $track; color: $muted; border-color: $track; }
QPushButton[kind="danger"] { color: $bad; border-color: $bad; }
QPushButton[kind="small"] { min-height: 26px; padding: 0 10px; }
QPushButton[kind="small"]:focus { min-height: 24px; padding: 0 9px; }
QPushButton[kind="small"][menu="true"] { padding-right: 18px; }
QPushButton[kind="quiet"] { background: transparent; border: 1px solid transparent; color: $muted;
  padding: 0 6px; min-height: 24px; }
QPushButton[kind="quiet"]:hover { color: $text; background: $hover; }
QPushButton[kind="quiet"]:checked { color: $accent; }
QPushButton[kind="quiet"]:focus { border: 1px solid $accent; }
QPushButton[kind="pill"] { background: transparent; border: 1px solid $line; border-radius: 12px; color: $muted;
  padding: 0 10px; min-height: 22px; }
QPushButton[kind="pill"]:hover { background: $hover; color: $text; }
QPushButton[kind="pill"]:checked { color: $accent; border-color: $accent; background: $selection; }
QPushButton[kind="pill"]:focus { border: 2px solid $accent; padding: 0 9px; min-height: 20px; }
QPushButton[kind="pill"]:disabled { color: $muted; background: transparent; }
QPushButton::menu-indicator { image: url($icons/chevron-down.svg); width: 12px; height: 12px;
  subcontrol-origin: padding; subcontrol-position: center right; right: 8px; }
QPushButton[kind="quiet"][menu="true"] { padding-right: 18px; }
QPushButton[kind="quiet"][menu="true"]::menu-indicator { right: 4px; }

QLineEdit, QPlainTextEdit, QTextEdit, QAbstractSpinBox, QComboBox { background: $field; color: $text;
  border: 1px solid $control_line; border-radius: 6px; padding: 0 8px; min-height: 30px;
  selection-background-color: $accent; selection-color: $accent_text; }
QLineEdit { padding: 0 6px; }
QPlainTextEdit, QTextEdit { padding: 6px 8px; }
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus, QAbstractSpinBox:focus, QComboBox:focus {
  border: 2px solid $accent; padding-left: 7px; padding-right: 7px; min-height: 28px; }
QLineEdit:focus { padding: 0 5px; }
QPlainTextEdit:focus, QTextEdit:focus { padding: 5px 7px; }
QLineEdit[invalid="true"], QAbstractSpinBox[invalid="true"], QComboBox[invalid="true"] { border-color: $bad; }
QLineEdit:disabled, QAbstractSpinBox:disabled, QComboBox:disabled { color: $muted; background: $background; }
QPlainTextEdit[quiet="true"], QTextEdit[quiet="true"] { border: 1px solid transparent;
  background: transparent; padding: 0; }
QPlainTextEdit[quiet="true"]:focus, QTextEdit[quiet="true"]:focus { border: 1px solid $accent; }
QAbstractSpinBox QLineEdit, QComboBox QLineEdit { border: none; background: transparent; padding: 0; min-height: 0; }
QAbstractSpinBox { padding: 0 20px 0 0; max-height: 30px; }
QAbstractSpinBox:focus { padding: 0 19px 0 0; max-height: 28px; }
QAbstractSpinBox::up-button, QAbstractSpinBox::down-button { border: none; background: transparent; width: 20px; }
QAbstractSpinBox::up-button { subcontrol-position: top right; }
QAbstractSpinBox::down-button { subcontrol-position: bottom right; }
QAbstractSpinBox::up-arrow { image: url($icons/chevron-up.svg); width: 10px; height: 10px; }
QAbstractSpinBox::down-arrow { image: url($icons/chevron-down.svg); width: 10px; height: 10px; }
QComboBox::drop-down { border: none; width: 24px; }
QComboBox::down-arrow { image: url($icons/chevron-down.svg); width: 12px; height: 12px; }
QComboBox QAbstractItemView { background: $panel; border: 1px solid $control_line; padding: 4px;
  selection-background-color: $selection; selection-color: $text; }
QComboBox QAbstractItemView::item { min-height: 28px; padding: 0 8px; }

QCheckBox { spacing: 8px; background: transparent; min-height: 24px; }
QCheckBox::indicator { width: 16px; height: 16px; border: 1px solid $control_line; border-radius: 4px;
  background: $field; }
QCheckBox::indicator:hover { border-color: $accent; }
QCheckBox::indicator:checked { background: $accent; border-color: $accent; }
QCheckBox:focus { color: $accent; }
QCheckBox::indicator:focus { border: 2px solid $accent; width: 14px; height: 14px; }
QCheckBox:disabled { color: $muted; }

QTableView, QTreeView, QListView { background: transparent; border: 1px solid transparent; gridline-color: $line;
  selection-background-color: $selection; selection-color: $text; alternate-background-color: transparent; }
QTableView:focus, QTreeView:focus, QListView:focus { border: 1px solid $accent; border-radius: 4px; }
QLabel:focus { background: $hover; }
QScrollArea:focus { border: 1px solid $accent; border-radius: 4px; }
QTableView::item, QTreeView::item, QListView::item { border-bottom: 1px solid $line; padding: 0 8px; }
QTableView[dense="true"]::item { padding: 0 3px; }
QTableView::item:selected, QTreeView::item:selected, QListView::item:selected { background: $selection; color: $text; }
QHeaderView, QHeaderView::section { background: transparent; color: $muted; border: none; }
QHeaderView::section { border-bottom: 1px solid $line; padding: 6px 11px; font-weight: 400; }
QTableCornerButton::section { background: transparent; border: none; }

QAbstractScrollArea::corner { background: transparent; border: none; }
QScrollBar:vertical { background: transparent; width: 10px; margin: 0; }
QScrollBar:horizontal { background: transparent; height: 10px; margin: 0; }
QScrollBar::handle { background: $control_line; border-radius: 2px; margin: 3px; }
QScrollBar::handle:vertical { min-height: 32px; }
QScrollBar::handle:horizontal { min-width: 32px; }
QScrollBar::handle:hover { background: $muted; }
QScrollBar::add-line, QScrollBar::sub-line { width: 0; height: 0; }
QScrollBar::add-page, QScrollBar::sub-page { background: transparent; }

QMenu { background: $panel; border: 1px solid $control_line; padding: 4px; }
QMenu::item { padding: 6px 24px 6px 12px; border-radius: 4px; }
QMenu::item:selected { background: $selection; color: $text; }
QMenu::item:disabled { color: $muted; }
QMenu::separator { height: 1px; background: $line; margin: 4px 8px; }
QSplitter::handle { background: transparent; }
QProgressBar { background: $track; border: none; border-radius: 3px; max-height: 6px; min-height: 6px; }
QProgressBar::chunk { background: $accent; border-radius: 3px; }
QSlider::groove:horizontal { background: $track; height: 4px; border-radius: 2px; }
QSlider::sub-page:horizontal { background: $accent; border-radius: 2px; }
QSlider::handle:horizontal { background: $accent; width: 14px; height: 14px; margin: -5px 0; border-radius: 7px; }
QTabBar::tab { background: transparent; color: $muted; padding: 6px 2px; margin-right: 16px; border: none;
  border-bottom: 2px solid transparent; }
QTabBar::tab:selected { color: $text; border-bottom-color: $accent; }
QTabBar::tab:focus { color: $accent; }
QTabWidget::pane { border: none; }
""")


def style_sheet(roles: Mapping[str, str]) -> str:
    """Return the style sheet, with each colour as the palette's role for it: the same text in every theme."""
    colors = {token: f"palette({role})" for token, role in roles.items()}
    return _TEMPLATE.substitute(colors, icons=resource("icons").as_posix())
