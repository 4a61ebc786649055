"""The window's two themes: colours as frozen tokens, the palette and the fonts.

Colours of data are Okabe-Ito's, lightened for the dark theme. Text colours meet WCAG AA (4.5 : 1) on every surface.
"""

import functools
from dataclasses import dataclass, fields
from typing import Literal

from PySide6.QtCore import QLocale, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from qlora_studio.ui.kit.fonts import BASE_PIXELS, bring_fonts, follow_text_size, made_font
from qlora_studio.ui.kit.repolish import Repolish
from qlora_studio.ui.kit.style_sheet import style_sheet

ThemeName = Literal["light", "dark"]
SANS = ("Inter", "Segoe UI", "Noto Sans", "Cantarell", "Ubuntu", "DejaVu Sans")
MONO = ("JetBrains Mono", "Cascadia Mono", "Consolas", "Noto Sans Mono", "Noto Mono", "DejaVu Sans Mono")
_PROPERTY = "studioTheme"
_ROLE = QPalette.ColorRole
_TEXTS = (_ROLE.WindowText, _ROLE.Text, _ROLE.ButtonText)
# How the style sheet names a colour, and the palette's roles that carry it. With the last five nothing in this window
# paints by itself. No role is left: what needs a colour beyond these paints itself.
_ROLES: dict[str, tuple[str, tuple[QPalette.ColorRole, ...]]] = {
    "background": ("window", (_ROLE.Window,)),
    "panel": ("button", (_ROLE.Button,)),
    "field": ("base", (_ROLE.Base,)),
    "text": ("text", _TEXTS),
    "muted": ("placeholder-text", (_ROLE.PlaceholderText,)),
    "accent": ("highlight", (_ROLE.Highlight, _ROLE.Accent)),
    "accent_text": ("highlighted-text", (_ROLE.HighlightedText,)),
    "bad": ("bright-text", (_ROLE.BrightText,)),
    "hover": ("light", (_ROLE.Light,)),
    "line": ("midlight", (_ROLE.Midlight,)),
    "track": ("mid", (_ROLE.Mid,)),
    "control_line": ("dark", (_ROLE.Dark,)),
    "selection": ("shadow", (_ROLE.Shadow,)),
    "accent_hover": ("link", (_ROLE.Link,)),
    "ok": ("link-visited", (_ROLE.LinkVisited,)),
    "warn": ("tooltip-text", (_ROLE.ToolTipText,)),
    "warn_surface": ("tooltip-base", (_ROLE.ToolTipBase,)),
    "bad_surface": ("alternate-base", (_ROLE.AlternateBase,)),
}


@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`: surfaces, lines, text, and the colours of data."""

    name: ThemeName
    background: str
    panel: str
    field: str
    selection: str
    hover: str
    line: str
    control_line: str
    track: str
    grid: str
    text: str
    muted: str
    accent: str
    accent_hover: str
    accent_text: str
    ok: str
    warn: str
    bad: str
    bad_surface: str
    warn_surface: str
    trained_surface: str
    neighbour_surface: str
    weights: str
    adapter: str
    optimizer: str
    activations: str
    logits: str
    context: str
    other: str

    def color(self, token: str) -> QColor:
        """Return the colour of a token by its name."""
        return QColor(getattr(self, token))

    def tokens(self) -> dict[str, str]:
        """Return every colour by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


LIGHT = Theme(
    name="light",
    background="#f6f7f9",
    panel="#ffffff",
    field="#ffffff",
    selection="#e5f0fa",
    hover="#eef1f5",
    line="#dfe3e8",
    control_line="#c4ccd5",
    track="#eaeef2",
    grid="#e9ecf0",
    text="#1a2027",
    muted="#566170",
    accent="#0a65b0",
    accent_hover="#085696",
    accent_text="#ffffff",
    ok="#006f54",
    warn="#8f4f00",
    bad="#b02318",
    bad_surface="#fdf0ee",
    warn_surface="#fdf5e8",
    trained_surface="#c9e8dd",
    neighbour_surface="#f5e3ee",
    weights="#0072b2",
    adapter="#56b4e9",
    optimizer="#009e73",
    activations="#e69f00",
    logits="#d55e00",
    context="#7f8a96",
    other="#cc79a7",
)

DARK = Theme(
    name="dark",
    background="#14171b",
    panel="#1b2025",
    field="#15191d",
    selection="#20303f",
    hover="#252b32",
    line="#2c333b",
    control_line="#434d58",
    track="#282f37",
    grid="#262c33",
    text="#e7ebef",
    muted="#9ca8b4",
    accent="#5aaeed",
    accent_hover="#7cc0f2",
    accent_text="#0b1016",
    ok="#3cc79d",
    warn="#f0ab50",
    bad="#f5857a",
    bad_surface="#33201f",
    warn_surface="#312717",
    trained_surface="#1d4a3d",
    neighbour_surface="#3a2636",
    weights="#3b94d1",
    adapter="#7cc8f2",
    optimizer="#26b890",
    activations="#eeb137",
    logits="#e8762c",
    context="#8a96a3",
    other="#d990b9",
)


def apply_theme(app: QApplication, theme: Theme) -> None:
    """Dress the whole program: Fusion, the palette, the style sheet and the fonts."""
    font, worn = sans_font(), app.property(_PROPERTY)
    resized = app.font() != font
    if worn == theme.name and not resized:
        return  # to dress again what is dressed costs a tenth of a second
    app.setProperty(_PROPERTY, theme.name)
    if worn is None and app.style().objectName().lower() != "fusion":
        app.setStyle(QStyleFactory.create("Fusion"))
    if worn != theme.name:
        app.setPalette(_palette(theme))
    if resized:
        app.setFont(font)
        app.setFont(sans_font(weight=QFont.Weight.Medium), "QPushButton")  # type: ignore[arg-type]  # as PySide takes it
        follow_text_size()
    if worn is None:
        app.setStyleSheet(style_sheet({token: name for token, (name, _roles) in _ROLES.items()}))
    elif worn != theme.name:
        _repolish(app).begin()


def finish_theme(part: QWidget) -> None:
    """Have a part of the window that is about to be shown wear the theme whole, where it does not yet."""
    app = QApplication.instance()
    if isinstance(app, QApplication):
        _repolish(app).finish(part)


def active_theme() -> Theme:
    """Return the theme that the program wears. Widgets that paint themselves ask in `paintEvent`."""
    app = QApplication.instance()
    return DARK if app is not None and app.property(_PROPERTY) == "dark" else LIGHT


def chosen_theme(choice: Literal["system", "light", "dark"]) -> Theme:
    """Return the theme of a setting; `system` follows the desktop, light where that says nothing."""
    if choice == "system":
        hints = QGuiApplication.styleHints()
        return DARK if hints.colorScheme() == Qt.ColorScheme.Dark else LIGHT
    return DARK if choice == "dark" else LIGHT


def sans_font(pixels: int = BASE_PIXELS, weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
    """Return the window's font: Inter, and the desktop's own for what Inter does not have."""
    return made_font(_installed_sans(), pixels, weight, QFont.StyleHint.SansSerif)


def mono_font(pixels: int = BASE_PIXELS) -> QFont:
    """Return a font of fixed width, for tokens, paths and logs."""
    return made_font(_installed_mono(), pixels, QFont.Weight.Normal, QFont.StyleHint.Monospace)


def c_locale() -> QLocale:
    """Return the locale for numbers: a decimal point everywhere, as in `run.toml`."""
    locale = QLocale.c()
    locale.setNumberOptions(QLocale.NumberOption.OmitGroupSeparator)
    return locale


@functools.cache
def _installed_sans() -> tuple[str, ...]:
    bring_fonts()
    system = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).families()
    return _installed((SANS[0], *system, *SANS[1:]))


@functools.cache
def _installed_mono() -> tuple[str, ...]:
    return _installed(MONO)


def _installed(families: tuple[str, ...]) -> tuple[str, ...]:
    known = set(QFontDatabase.families())
    return tuple(name for name in dict.fromkeys(families) if name in known) or families


def _palette(theme: Theme) -> QPalette:
    # Explicit, because setColorScheme does nothing on some platforms.
    palette = QPalette()
    for token, (_name, roles) in _ROLES.items():
        for role in roles:
            palette.setColor(role, theme.color(token))
    for role in _TEXTS:
        palette.setColor(QPalette.ColorGroup.Disabled, role, theme.color("muted"))
    return palette


def _repolish(app: QApplication) -> Repolish:
    return app.findChild(Repolish) or Repolish(app)
