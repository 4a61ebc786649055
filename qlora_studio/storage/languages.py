"""The languages that the window can speak: a catalogue of `gettext` is a file `LANGUAGE.mo`, ours or the user's own.

This module and what it imports say nothing as they are imported: the language is not chosen by then.
"""

import gettext
import io
import os
import re
import struct
from pathlib import Path

from qlora_studio.core.errors import StudioError
from qlora_studio.core.words import speak
from qlora_studio.storage.foreign import read_bytes
from qlora_studio.storage.resources import resource
from qlora_studio.storage.settings import data_path, load_settings

ENGLISH = "en"
_LARGEST = 16 << 20  # bytes
_NAME = re.compile(r"[A-Za-z]{2,16}([_-][A-Za-z0-9]{1,16})*")
_spoken = ENGLISH


def speak_chosen() -> None:
    """Speak the language of `QLORA_STUDIO_LANGUAGE` or of the settings; English where it has no catalogue.

    Workers that are started from here speak it, too.
    """
    global _spoken
    language = os.environ.get("QLORA_STUDIO_LANGUAGE") or load_settings().language
    catalogue = catalogue_of(language)
    speak(catalogue)
    _spoken = os.environ["QLORA_STUDIO_LANGUAGE"] = language if catalogue else ENGLISH


def spoken_language() -> str:
    """Return the language that this process speaks."""
    return _spoken


def languages() -> tuple[str, ...]:
    """Return the languages that have a catalogue, and English."""
    found = {path.stem for folder in _folders() if folder.is_dir() for path in folder.glob("*.mo")}
    return (ENGLISH, *sorted(name for name in found - {ENGLISH} if catalogue_of(name) is not None))


def catalogue_of(language: str) -> gettext.GNUTranslations | None:
    """Return a catalogue, the user's own before ours; None where there is none that can be read."""
    if not _NAME.fullmatch(language):
        return None
    for folder in _folders():
        try:
            return gettext.GNUTranslations(io.BytesIO(read_bytes(folder / f"{language}.mo", limit=_LARGEST)))
        except (FileNotFoundError, StudioError):
            continue
        except (OSError, ValueError, LookupError, struct.error, RecursionError, MemoryError):
            continue  # all that the library raises of a file that is damaged
    return None


def _folders() -> tuple[Path, Path]:
    return data_path() / "languages", resource("languages")
