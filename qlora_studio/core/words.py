"""The one function that all words for people pass, so that a translation is a file and no code."""


def say(text: str, **values: object) -> str:
    """Return `text` with `values` in its named fields: `say("{rows:,} rows are cut off", rows=12)`."""
    return text.format(**values) if values else text
