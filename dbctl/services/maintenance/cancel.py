"""Ending what sessions of a server do: those that are named, or those that have been at it for too long."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from dbctl import signals
from dbctl.engines.contract import Capability, Session, Sessions
from dbctl.errors import NotSupportedError, PrivilegeMissingError, SessionMissingError, UsageError
from dbctl.model import Done, Plan, Row, Value, counted
from dbctl.services.app import App, configured
from dbctl.services.stats import FILES, sessions_of

#: Seconds between two looks whether a session has ended what it did.
LOOK_SECONDS = 0.05


class Ended(Value, frozen=True, kw_only=True):
    """A session that was asked to end what it did."""

    pid: int
    user: str
    application: str
    query: str
    ended: bool  #: whether it did, in the time that there was


class Cancelled(Done, frozen=True, kw_only=True):
    """Answer of ``maintain cancel``."""

    sessions: Sequence[Ended]

    @property
    def changed(self) -> bool:
        """Whether anybody was asked to end anything."""
        return bool(self.sessions)

    @property
    def remarks(self) -> Sequence[str]:
        left = [str(one.pid) for one in self.sessions if not one.ended]
        return [f"still at it: {', '.join(left)}; --terminate ends the session"] if left else []

    def brief(self) -> Sequence[Row]:
        return [{word: getattr(one, word) for word in one.__struct_fields__} for one in self.sessions]


class Cancelling:
    """What is to be ended: sessions by their number, or by how long they have been at it."""

    def __init__(
        self,
        app: App,
        pids: Sequence[int] = (),
        *,
        older_than: timedelta | None = None,
        terminate: bool = False,
    ) -> None:
        """Describe it.

        Args:
            app: the app.
            pids: the sessions that are meant.
            older_than: in their place, those whose statement runs for longer; with ``terminate`` also those that have
                had a transaction open for longer and do nothing.
            terminate: whether the session ends, too.

        Raises:
            UsageError: neither was given, or both.
            ReadOnlyError: the database is its owner's business.
            NotSupportedError: no database of the app is on a server.
        """
        if bool(pids) == (older_than is not None):
            raise UsageError(detail="name sessions by their PID, or give --older-than; not both")
        self._opened, self._pids, self._older_than, self._terminate = app, pids, older_than, terminate
        self.app, self.protected = app.name, app.protected
        self._name = _on_a_server(app)
        self.target = app.target(self._name)
        self._seen: set[tuple[int, str]] | None = None  #: what a person agreed to

    def plan(self) -> Plan:
        """Return what would be ended now."""
        meant = self._meant()
        self._seen = {(one.pid, one.statement) for one in meant}
        noun = "session" if self._terminate else "statement"
        return Plan(
            title=f"End {counted(len(meant), noun)}",
            target=self.target,
            steps=[_told(one) for one in meant],
            rows={},
            destructive=True,
        )

    def apply(self, seen: str | None = None) -> Cancelled:
        """End it, and look whether it has ended.

        Args:
            seen: given where a person agreed to the plan: what has begun since then is left alone.

        Raises:
            PrivilegeMissingError: one of those that were named is another user's, and this one may not.
        """
        meant = self._meant()
        if seen is not None and self._seen is not None:
            meant = [one for one in meant if (one.pid, one.statement) in self._seen]
        db = self._sessions()
        asked = [one for one in meant if db.cancel(one.pid, terminate=self._terminate)]
        going = self._still_there(db, asked)
        return Cancelled(
            sessions=[
                Ended(
                    pid=one.pid,
                    user=one.user,
                    application=one.application,
                    query=one.query,
                    ended=one.pid not in going,
                )
                for one in asked
            ]
        )

    def _sessions(self) -> Sessions:
        return sessions_of(self._opened, self._name, "ending what a session does")

    def _meant(self) -> list[Session]:
        found = {one.pid: one for one in self._sessions().sessions()}
        if self._older_than is not None:
            return [one for one in found.values() if one.may_end and self._is_old(one, self._older_than)]
        missing = [pid for pid in self._pids if pid not in found]
        if missing:
            raise SessionMissingError(pids=", ".join(map(str, missing)), target=self.target)
        foreign = [pid for pid in self._pids if not found[pid].may_end]
        if foreign:
            raise PrivilegeMissingError(
                target=self.target,
                reason=f"this role may not end what {', '.join(map(str, foreign))} does",
                instead="Nothing was ended. As a superuser: GRANT pg_signal_backend TO the role that dbctl signs in as; only a superuser ends what superusers do.",
            )
        return [found[pid] for pid in dict.fromkeys(self._pids)]

    def _is_old(self, one: Session, age: timedelta) -> bool:
        seconds = one.query_seconds
        if seconds is None and self._terminate:
            seconds = one.transaction_seconds
        return seconds is not None and seconds >= age.total_seconds()

    def _still_there(self, db: Sessions, asked: Sequence[Session]) -> set[int]:
        """Return those that have not ended what they did when the time to wait was over."""
        deadline = time.monotonic() + self._opened.timeout
        while True:
            now = {one.pid: one for one in db.sessions()}
            going = {
                one.pid
                for one in asked
                if one.pid in now and (self._terminate or _is_at_it(now[one.pid], one))
            }
            if not going or time.monotonic() >= deadline:
                return going
            signals.check()
            time.sleep(LOOK_SECONDS)


def _on_a_server(app: App) -> str:
    """Return the database that is meant: the first on a server."""
    for name in configured(app):
        if app.only or app.database(name).mode == "read-write":
            app.writable(name)
            if Capability.SESSIONS in app.reader(name).capabilities:
                return name
    raise NotSupportedError(what="ending what a session does", by=app.name, instead=FILES)


def _is_at_it(now: Session, before: Session) -> bool:
    return now.statement == before.statement and now.query_seconds is not None


def _told(one: Session) -> str:
    whose = f"{one.application} of {one.user}" + (f" from {one.client}" if one.client else "")
    seconds = one.query_seconds if one.query_seconds is not None else one.transaction_seconds
    lasting = "" if seconds is None else f" for {seconds:.0f} s"
    return f"{one.pid}, {whose}, {one.state or 'unknown'}{lasting}: {one.query or 'nothing'}"
