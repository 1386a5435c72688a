"""Check the configured replicas of an app: reachable, not promoted, current, and replicas of the right database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress

from dbctl.engines import registry
from dbctl.engines.contract import ReplicaMonitor, require_replica
from dbctl.errors import DbctlError
from dbctl.model import Finding
from dbctl.services.app import App
from dbctl.services.integrity.check import create_failure_finding, create_finding


def check_replica(app: App, database: str) -> Iterator[Finding]:
    """Yield the problems of the replica of a database, if one is configured."""
    replica, target = app.configured.replicas.get(database), app.target(database)
    if replica is None:
        return
    engine = registry.load_engine(replica.url.engine)
    try:
        with closing(engine.open_for_reading(replica.url, target, timeout=app.timeout)) as db:
            require_replica(db, max_lag=replica.max_lag, timeout=app.timeout)
            if monitor := db.part(ReplicaMonitor):
                yield from _compare_identity(app, database, monitor.read_identity())
                for limit in monitor.find_read_limits():
                    yield create_finding(target, limit)
    except DbctlError as error:
        yield create_failure_finding(target, error)


def _compare_identity(app: App, database: str, replica_identity: str) -> Iterator[Finding]:
    primary_identity = ""
    with suppress(DbctlError):  # reported by the check of the database itself
        if monitor := app.reader(database).part(ReplicaMonitor):
            primary_identity = monitor.read_identity()
    if replica_identity and primary_identity and replica_identity != primary_identity:
        message = "the configured replica is a copy of another server or database"
        hint = f"Correct url under [apps.{app.name}.replicas.{database}] of the configuration."
        yield Finding(app.target(database), "error", "replica-foreign", message, hint)
