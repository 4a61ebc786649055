"""The hub's progress bars as `Progressed` events, and the user's Stop as their end."""

from typing import Any

from tqdm.auto import tqdm

from qlora_studio.engine.context import Channel


def progress_bar(channel: Channel) -> type[Any]:
    """Return a tqdm class that tells the bytes of all files together, and raises where the user wants the end."""

    class ReportedBar(tqdm):  # type: ignore[type-arg]  # generic in its stubs alone
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": False, "file": _Nowhere()})

        def update(self, n: float | None = 1) -> bool | None:
            changed: bool | None = super().update(n)
            if self.unit == "B":
                channel.raise_if_stopped()
                channel.progress("download", int(self.n), int(self.total or 0), "bytes")
            return changed

    return ReportedBar


class _Nowhere:
    """A terminal that is not there."""

    def write(self, text: str) -> None:
        """Drop `text`."""

    def flush(self) -> None:
        """Do nothing."""
