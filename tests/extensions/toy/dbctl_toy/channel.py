"""A channel of notifications that appends their titles to a file."""

# No `from __future__ import annotations`: msgspec would have to evaluate the strings at each start.
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from dbctl.extensions.notify.channels.base import SendFailedError
from dbctl.extensions.notify.notice import Notice
from dbctl.extensions.notify.section import ChannelSection


class ToyFile(ChannelSection, frozen=True, kw_only=True):
    """``[notify.toyfile]``."""

    channel = "dbctl_toy.channel:FileChannel"

    path: str

    def find_problems(self, apps: Collection[str]) -> Iterator[tuple[Sequence[str], str]]:
        yield from super().find_problems(apps)
        if not self.path:
            yield ("path",), "it is empty"


class FileChannel:
    """A file."""

    name = "toyfile"

    def __init__(self, section: ToyFile, folder: Path) -> None:
        self._path = folder / section.path

    @property
    def place(self) -> str:
        """The name of the file."""
        return self._path.name

    def send(self, notice: Notice) -> None:
        """Append a line."""
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{notice.event}: {notice.title}\n")
        except OSError as error:
            raise SendFailedError(str(error.strerror)) from error
