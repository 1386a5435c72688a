"""What the engines of servers share: a driver, which may be missing, and errors by their codes, because the texts are in the server's language."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from typing import TYPE_CHECKING, cast

from msgspec import structs

from dbctl.engines.contract.engine import Engine
from dbctl.engines.contract.route import create_lost_error
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    DiskFullError,
    PrivilegeMissingError,
    QueryFailedError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.errors.operations import CommitInDoubtError, ReplicaConflictError
from dbctl.errors.usage import require_driver
from dbctl.model import Struct
from dbctl.url import Url

if TYPE_CHECKING:  # most commands only read a database
    from dbctl.engines.contract.checks import LockHolder
    from dbctl.engines.servers.database import ServerDatabase, SessionMonitor

CHECK_URL = "Check that the server runs, and host, port, name, user and password in the URL of this database."
#: Instead of ``CHECK_URL``, if the server, or the account, has too many connections.
FREE_CONNECTION = "End sessions of the app that do nothing, or raise the limit"
DISCONNECTED = "Uncommitted changes were rolled back. Run it again when the server is available."


class ServerEngine(Engine):
    """Databases on servers; each method imports the driver with the modules that need it.

    Most methods of two engines differ only in these imports, which editors and type checkers follow.
    """

    driver: str  #: the package of the driver, with its extras
    central_database: str  #: one that each server has

    @property
    @abstractmethod
    def databases_sql(self) -> str:
        """A query in the central database for the names of the others."""

    def list_databases(self, url: Url, target: str, *, timeout: float) -> Sequence[str]:
        from dbctl.engines.servers.dumps import is_derived_name

        central = structs.replace(url, path=self.central_database)
        with closing(self.open_for_reading(central, target, timeout=timeout)) as db:
            names = [str(name) for (name,) in cast("ServerDatabase", db).connection.fetch(self.databases_sql)]
        return sorted(name for name in names if not is_derived_name(name))

    def list_lock_holders(self, url: Url, target: str) -> Sequence[LockHolder]:
        from dbctl.engines.servers.database import SHORT_TIMEOUT

        with closing(self.open_for_reading(url, target, timeout=SHORT_TIMEOUT)) as db:
            return cast("SessionMonitor", db.server).list_lock_holders()

    def _require_driver(self, target: str) -> AbstractContextManager[None]:
        return require_driver(target, driver=self.driver, extra=self.name)


class ErrorContext(Struct, frozen=True, kw_only=True):
    """The database that failed, for messages."""

    url: Url
    target: str  #: ``app/database``
    timeout: float  #: seconds of waiting for a lock
    account: str = ""  #: the role, or the user and host, quoted for GRANT
    #: whether the server is a replica, which cancels reads that conflict with replicated changes
    in_standby: bool = False
    schema: str = ""  #: the schema, or the database on a server without schemas
    #: returns the database as GRANT names it, if rights on all of its objects are missing
    find_place: Callable[[], str] = str
    #: describes the lock holders as `` by …``, from the server's message
    blockers: Callable[[str], str] = lambda _message: ""

    def disconnected_error(
        self, reason: str, *, committing: bool, is_refused: bool = False
    ) -> UnreachableError:
        lost = create_lost_error(self.url, self.target, reason, DISCONNECTED, is_refused=is_refused)
        return CommitInDoubtError(target=self.target, reason=lost.context["reason"]) if committing else lost

    def query_error(
        self, reason: str, *, limit: str = "", hint: str | Remedy = "", is_table_missing: bool = False
    ) -> QueryFailedError:
        """Return the error of a rejected statement; ``limit``: how to remove the time limit that it exceeded."""
        if limit:
            hint = f"A time limit of the server, or another session, stopped it. {limit}"
        return QueryFailedError(
            target=self.target,
            reason=reason,
            is_table_missing=is_table_missing,
            **({"hint": hint} if hint else {}),
        )

    def create_error(
        self,
        kind: type[DbctlError],
        reason: str,
        *,
        message: str = "",
        grant_hint: Callable[[], str] = str,
        row: int | None = None,
    ) -> DbctlError:
        """Return the error of class ``kind``, to which a code of the server maps.

        ``reason`` contains no values of a row, ``message`` describes a wait for a lock, ``grant_hint`` returns the hint for a
        missing privilege, and ``row`` is the number of the rejected row, from 1.
        """
        facts: dict[str, object] = {"target": self.target}
        if kind is BusyError:
            facts |= {"holder": self.blockers(message), "waited": f"{self.timeout:g}"}
        elif kind is ConcurrentChangeError and self.in_standby:
            kind = ReplicaConflictError
        elif kind not in (ConcurrentChangeError, DiskFullError):
            facts["reason"] = reason
        if issubclass(kind, PrivilegeMissingError):
            facts["hint"] = grant_hint()
        elif kind is ReadOnlyError:
            facts["hint"] = "Nothing was changed."
        elif kind is ConstraintError:
            facts["row"] = row
        return kind(**facts)
