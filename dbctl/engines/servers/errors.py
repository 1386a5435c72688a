"""Errors of servers: their codes are converted to the errors of dbctl, because their texts are in the server's language."""

from __future__ import annotations

from collections.abc import Callable

from dbctl.errors import (
    BusyError,
    ConcurrentChangeError,
    ConstraintError,
    DbctlError,
    DiskFullError,
    PrivilegeMissingError,
    ReadOnlyError,
    UnreachableError,
)
from dbctl.model import Struct

CHECK_URL = "Check that the server runs, and host, port, name, user and password in the URL of this database."
DISCONNECTED = "Uncommitted changes were rolled back. Run it again when the server is available."
IN_DOUBT = (
    "The connection was lost during a commit: check whether the change was made before you run it again."
)


class ErrorContext(Struct, frozen=True, kw_only=True):
    """The database that failed, for messages."""

    target: str  #: ``app/database``
    timeout: float  #: seconds of waiting for a lock
    account: str = ""  #: the role, or the user and host, quoted for GRANT
    schema: str = ""  #: the schema, or the database on a server without schemas
    #: describes the lock holders as `` by …``, from the server's message
    blockers: Callable[[str], str] = lambda _message: ""

    def disconnected_error(self, reason: str, *, committing: bool) -> UnreachableError:
        return UnreachableError(
            target=self.target, reason=reason, hint=IN_DOUBT if committing else DISCONNECTED
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
        elif kind not in (ConcurrentChangeError, DiskFullError):
            facts["reason"] = reason
        if kind is PrivilegeMissingError:
            facts["hint"] = grant_hint()
        elif kind is ReadOnlyError:
            facts["hint"] = "Nothing was changed."
        elif kind is ConstraintError:
            facts["row"] = row
        return kind(**facts)
