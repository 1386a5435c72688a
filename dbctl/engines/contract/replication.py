"""Contract: replicas, which are read-only copies of a database on another server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from dbctl import signals
from dbctl.engines.contract.reader import Readable, require_part
from dbctl.errors.replication import ReplicaLagError, ReplicaPromotedError
from dbctl.model import Struct

if TYPE_CHECKING:
    from dbctl.engines.contract.monitoring import EngineFinding

#: Seconds between two readings of a lag.
POLL_SECONDS = 0.1


class ReplicaState(Struct, frozen=True, kw_only=True):
    """How far a replica is behind its primary."""

    #: The age of the newest applied change; 0: all received changes are applied, and the primary is connected. None: unknown.
    lag_seconds: float | None
    lag_bytes: int | None  #: received changes that are not applied yet; None: unknown
    is_connected: bool  #: whether the replica receives changes from its primary

    @property
    def lag(self) -> str:
        """The lag for messages."""
        seconds = "an unknown time" if self.lag_seconds is None else f"{self.lag_seconds:.0f} s"
        return seconds if self.is_connected else f"disconnected and {seconds}"

    def is_within(self, max_lag: timedelta) -> bool:
        """Whether the lag is known, and at most ``max_lag``."""
        return self.lag_seconds is not None and self.lag_seconds <= max_lag.total_seconds()


class ReplicaMonitor(Protocol):
    """The part that observes the replication of a server."""

    def read_state(self) -> ReplicaState | None:
        """Return the state of a replica; None: the server is no replica, or was promoted."""

    def read_identity(self) -> str:
        """Return a text that is the same for a database and its replicas; empty if it is unknown."""

    def find_read_limits(self) -> Sequence[EngineFinding]:
        """Return settings of a replica because of which it cancels long reads, such as backups."""


class Cluster(Protocol):
    """The part of a database that every server of a cluster writes; absent without a cluster."""

    def blocks_all_servers(self, sql: str) -> bool:
        """Whether no server of the cluster can write while a statement runs."""


def require_replica(db: Readable, *, max_lag: timedelta, timeout: float) -> None:
    """Check that ``db`` is a replica, and wait until it is at most ``max_lag`` behind.

    Raises:
        NotSupportedError: the engine has no replicas.
        ReplicaPromotedError: it is no replica.
        ReplicaLagError: it remained further behind for ``timeout`` seconds.
    """
    monitor = require_part(db, ReplicaMonitor, "reading from a replica", "Run it without --replica.")
    deadline = time.monotonic() + timeout
    while True:
        state = monitor.read_state()
        if state is None:
            raise ReplicaPromotedError(target=db.target)
        if state.is_within(max_lag):
            return
        if time.monotonic() >= deadline:
            raise ReplicaLagError(target=db.target, lag=state.lag, limit=max_lag.total_seconds())
        signals.raise_if_interrupted()
        time.sleep(POLL_SECONDS)
