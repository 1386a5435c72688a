"""Sent notices: the problems of which each channel was notified. Without a store that can be read, no notice is suppressed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from dbctl.errors.base import DbctlError
from dbctl.model import Struct, now
from dbctl.services.events.store import EventStore, storable_text

#: Notices that are older are deleted: the app or the job does not exist any more.
MAX_AGE = timedelta(days=400)


class SentNotice(Struct, frozen=True, kw_only=True):
    """A problem that was sent and is not known to have ended."""

    code: str  #: a notice with another code is sent at once
    times: dict[str, datetime]  #: of the last notice, by channel


class SentNotices:
    """The problems of which users were notified, by app and subject."""

    def __init__(self, folder: Path | None, config: str) -> None:
        """Read the notices of a configuration, whose path is ``config``; without a ``folder``, the directory for state, nothing is stored."""
        self._store, self._config = EventStore(folder) if folder else None, storable_text(config)
        self._sent, self._changed = dict[tuple[str, str], SentNotice](), set[tuple[str, str]]()
        with suppress(DbctlError):
            self._read()

    def find(self, app: str, subject: str) -> SentNotice | None:
        """Return the record of the notices about a subject."""
        return self._sent.get((storable_text(app), subject))

    def is_suppressed(self, app: str, subject: str, code: str, channel: str, repeat: timedelta) -> bool:
        """Whether a channel delivered the same problem within ``repeat``.

        A time in the future does not suppress, because the clock was set back.
        """
        sent = self.find(app, subject)
        if sent is None or sent.code != code or channel not in sent.times:
            return False
        return timedelta(0) <= now() - sent.times[channel] < repeat

    def add(self, app: str, subject: str, code: str, channel: str) -> None:
        """Record a delivery."""
        sent = self.find(app, subject)
        times = sent.times if sent and sent.code == code else {}
        key = (storable_text(app), subject)
        self._sent[key] = SentNotice(code=code, times={**times, channel: now()})
        self._changed.add(key)

    def remove(self, apps: Sequence[str], subject: str, channel: str) -> None:
        """Record that a channel was notified of the end of a problem, or is not to be."""
        for app in apps:
            if sent := self.find(app, subject):
                sent.times.pop(channel, None)
                self._changed.add((storable_text(app), subject))

    def store(self) -> None:
        """Write the changes; if they cannot be written, later notices are not suppressed."""
        if not (self._store and self._changed):
            return
        with suppress(DbctlError), self._store.writing() as connection:
            for app, subject in self._changed:
                key = (self._config, app, subject)
                connection.execute("delete from notices where config = ? and app = ? and subject = ?", key)
                if sent := self.find(app, subject):
                    connection.executemany(
                        "insert into notices (config, app, subject, channel, code, sent_at) values (?, ?, ?, ?, ?, ?)",
                        [(*key, channel, sent.code, at.isoformat()) for channel, at in sent.times.items()],
                    )
            connection.execute("delete from notices where sent_at < ?", ((now() - MAX_AGE).isoformat(),))

    def _read(self) -> None:
        if self._store is None:
            return
        with self._store.reading() as db:
            for row in db["notices"].rows_where("config = ?", [self._config]) if db else ():
                sent = self._sent.setdefault(
                    (row["app"], row["subject"]), SentNotice(code=row["code"], times={})
                )
                sent.times[row["channel"]] = datetime.fromisoformat(str(row["sent_at"]))
