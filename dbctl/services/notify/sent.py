"""Record of the sent notices, a file next to the journal. Without it, no notice is suppressed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import msgspec

from dbctl.errors import DbctlError, FileFailedError
from dbctl.files import lock, read_settings_bytes, write_atomically
from dbctl.model import JSON_ERRORS, Struct, now

FILE_NAME, LOCK_NAME = "notify.json", "notify.lock"
#: Entries that are older are deleted: the app or the job does not exist any more.
MAX_AGE = timedelta(days=400)
LOCK_SECONDS = 1.0
MAX_BYTES = 64 << 20


class SentNotice(Struct, frozen=True, kw_only=True):
    """A problem that was sent and is not known to have ended."""

    code: str  #: a notice with another code is sent at once
    times: Mapping[str, datetime]  #: of the last notice, by channel


class SentNotices:
    """The problems of which users were notified, by app and subject."""

    def __init__(self, folder: Path | None, config: str) -> None:
        """Read the file; one that is missing or damaged is empty.

        Args:
            folder: the directory of the journal; None: nothing is stored.
            config: the path of the configuration.
        """
        self._folder, self._config = folder, config
        self._entries = _read(folder / FILE_NAME) if folder else {}
        self._changes: dict[str, SentNotice | None] = {}

    def find(self, app: str, subject: str) -> SentNotice | None:
        """Return the record of the notices about a subject."""
        return self._entries.get(self._key(app, subject))

    def is_suppressed(self, app: str, subject: str, code: str, channel: str, repeat: timedelta) -> bool:
        """Whether a channel delivered the same problem within ``repeat``.

        A time in the future does not suppress, because the clock was set back.
        """
        entry = self.find(app, subject)
        if entry is None or entry.code != code or channel not in entry.times:
            return False
        return timedelta(0) <= now() - entry.times[channel] < repeat

    def add(self, app: str, subject: str, code: str, channel: str) -> None:
        """Record a delivery."""
        entry = self.find(app, subject)
        times = entry.times if entry and entry.code == code else {}
        self._set(app, subject, SentNotice(code=code, times={**times, channel: now()}))

    def remove(self, app: str, subject: str) -> None:
        """Record that a problem ended."""
        if self.find(app, subject):
            self._set(app, subject, None)

    def store(self) -> None:
        """Write the changes into the file; if it cannot be written, later notices are not suppressed."""
        if not (self._folder and self._changes):
            return
        path = self._folder / FILE_NAME
        with suppress(OSError, DbctlError):
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with lock.exclusive(
                self._folder / LOCK_NAME,
                str(path),
                "notify",
                timeout=LOCK_SECONDS,
                to_error=lambda reason: FileFailedError(path=path, reason=reason),
            ):
                entries = {**_read(path), **self._changes}
                oldest = now() - MAX_AGE
                current = {
                    key: entry
                    for key, entry in entries.items()
                    if entry and max(entry.times.values()) > oldest
                }
                with write_atomically(path, replace=True) as file:
                    file.write(msgspec.json.encode(current).decode())

    def _set(self, app: str, subject: str, entry: SentNotice | None) -> None:
        key = self._key(app, subject)
        self._changes[key] = self._entries[key] = entry

    def _key(self, app: str, subject: str) -> str:
        return f"{self._config}\n{app}\n{subject}"


def _read(path: Path) -> dict[str, SentNotice | None]:
    """Return the entries of a file; none if it is missing, damaged, or cannot be read."""
    try:
        entries = msgspec.json.decode(read_settings_bytes(path, MAX_BYTES), type=dict[str, SentNotice])
    except (OSError, *JSON_ERRORS):
        return {}
    return {key: entry for key, entry in entries.items() if entry.times}
