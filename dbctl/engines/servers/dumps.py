"""Dumps and restores on all servers: client programs in containers, names of databases, roles, and the swap of a database."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dbctl import signals
from dbctl.engines.contract.dumps import (
    BlockWriter,
    Dump,
    DumpVerification,
    LoadRequest,
    LoadResult,
    MissingRole,
    RolePolicy,
    StagedDump,
)
from dbctl.engines.contract.route import wrap_program
from dbctl.engines.servers.connection import CONNECT_SECONDS
from dbctl.errors.backup import RestoreFailedError, RoleReplacementInvalidError, RolesMissingError
from dbctl.errors.connection import ReadOnlyError
from dbctl.errors.usage import NotSupportedError, UrlInvalidError
from dbctl.files import limited_program, subprocesses
from dbctl.files.codecs import Compressor
from dbctl.model import format_count
from dbctl.progress import Progress
from dbctl.url import Url

MAX_VERSION_BYTES = 1 << 10
#: Runs a program with the password that is the first line of its input: other users can see arguments.
_READ_AND_RUN = 'IFS= read -r {0}; export {0}; exec "$@"'


def read_container_version(url: Url, target: str, program: str) -> str:
    """Return what a program in the container of a server prints as its version; empty if there is none."""
    words = wrap_program(url, target, [program, "--version"])
    try:
        output = (
            limited_program.run(words, seconds=CONNECT_SECONDS, max_bytes=MAX_VERSION_BYTES) if words else b""
        )
    except limited_program.ProgramFailedError:
        return ""
    return output.decode(errors="replace")


@contextmanager
def run_in_container(
    url: Url,
    target: str,
    argv: Sequence[str],
    *,
    password: tuple[str, str],
    variables: Mapping[str, str],
    watch: subprocesses.ProgramWatch,
    writes: bool = False,
) -> Iterator[subprocesses.ClientProgram]:
    """Run a program in the container at the end of the route of ``url``, which connects from inside.

    Args:
        url: an address whose route ends in a container.
        target: ``app/database``, for messages.
        argv: the program and its arguments.
        password: the name of its variable, and its text.
        variables: further ones, which other users can see.
        watch: how to monitor it.
        writes: whether it gets an output pipe.

    Raises:
        UrlInvalidError: the password contains a line break.
        UnreachableError: a part of the route cannot be opened.
    """
    variable, text = password
    if "\n" in text:
        raise UrlInvalidError(
            reason="its password contains a line break, which cannot be passed to a container"
        )
    settings = [f"{name}={value}" for name, value in {"LC_ALL": "C", **variables}.items()]
    words = ["sh", "-c", _READ_AND_RUN.format(variable), "sh", "env", *settings, *argv]
    with subprocesses.run_program(
        wrap_program(url, target, words) or words,
        os.environ,  # that of the client of the container, whose variables have no fixed names
        watch=watch,
        reads=True,
        writes=writes,
    ) as client:
        client.write(f"{text}\n".encode())
        yield client


UNCHANGED = "The database is unchanged."
NO_BACKUP = "No backup was created; existing backups are unchanged."
RETAINED_SUFFIX, SCRATCH_SUFFIX = "_dbctl_", "_dbctl_new_"
#: Maximum bytes of a name on every server.
MAX_NAME_BYTES = 63


def derived_name(name: str, suffix: str) -> str:
    """Return the name of a database that belongs to another one, within the maximum length of a server."""
    limit = MAX_NAME_BYTES - len(f"{RETAINED_SUFFIX}YYYYMMDD_HHMMSS")
    if len(name.encode()) > limit:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: limit - 9].decode(errors='ignore')}_{digest}"
    return f"{name}{suffix}"


def new_scratch_name(name: str) -> str:
    return derived_name(name, f"{SCRATCH_SUFFIX}{secrets.token_hex(4)}")


def is_derived_name(name: str) -> bool:
    """Whether a name is that of a scratch or a retained database of another one."""
    return bool(re.search(rf"({SCRATCH_SUFFIX}[0-9a-f]{{8}}|{RETAINED_SUFFIX}\d{{8}}_\d{{6}})$", name))


def scratch_name_pattern(name: str) -> str:
    """Return a pattern for the names of scratch databases, including those that a killed process left over."""
    return f"^{re.escape(derived_name(name, SCRATCH_SUFFIX))}[0-9a-f]{{8}}$"


def estimate_dump_size(stored_bytes: int) -> int:
    """Return the approximate size of a dump of ``stored_bytes`` on a server: it lacks indexes and free space."""
    return stored_bytes * 3 // 4


def copy_output(
    client: subprocesses.ClientProgram,
    file: BlockWriter,
    feed: Callable[[bytes], None],
    compressor: Compressor | None,
    expected_bytes: int,
    progress: Progress,
) -> int:
    """Write the output of a dump program, and pass each block to ``feed``; return its size before compression."""
    read_bytes = 0
    for block in client.blocks():
        feed(block)
        file.write(compressor.compress(block) if compressor else block)
        read_bytes += len(block)
        progress(min(1.0, read_bytes / expected_bytes))
    if compressor:
        file.write(compressor.flush())
    return read_bytes


def failed_verification(problem: str) -> DumpVerification:
    """Return the verification of a dump that cannot be loaded."""
    return DumpVerification(tables={}, schema="", problems=[problem])


def require_row_counts(
    path: Path, target: str, counts: Mapping[str, int], expected: Mapping[str, int]
) -> None:
    """Refuse a file whose row counts differ from those of the dump that it should contain; it may not mention a table without rows.

    Raises:
        RestoreFailedError: a table differs.
    """
    if names := sorted(name for name in {*counts, *expected} if counts.get(name, 0) != expected.get(name, 0)):
        reason = f"{path.name}: row counts of {', '.join(names)} are unexpected"
        raise RestoreFailedError(target=target, reason=reason, hint=UNCHANGED)


OMIT_SECRETS = "Connect as a user who may read them, or copy none: omit --secrets of backup create, or pass --roles skip to transfer upgrade."


class DumpedRole(Protocol):
    """A role of a server, or an account, in the form of its manifest."""

    @property
    def name(self) -> str: ...

    @property
    def is_named(self) -> bool:
        """Whether statements of the dump name it."""

    def describe(self, policy: RolePolicy) -> str:
        """Return with what a restore creates the role, and what it leaves out."""


R = TypeVar("R", bound=DumpedRole)
S = TypeVar("S")


class ServerRoles(ABC, Generic[R]):
    """The roles of the server to which a dump is restored."""

    kind: type[R]
    word: str  #: for messages

    def __init__(self, session: Any, target: str) -> None:
        self._session, self._target = session, target

    @abstractmethod
    def read_names(self) -> Collection[str] | None:
        """Return the roles of the server; None: this user may not read them."""

    @abstractmethod
    def _create(self, roles: Sequence[R], policy: RolePolicy) -> None:
        """Create roles, and make them members of the roles that exist."""

    @abstractmethod
    def _drop(self, roles: Sequence[R]) -> None:
        """Drop roles that a load has created; never raise."""

    def parse(self, dump: Dump) -> Sequence[R]:
        """Return the roles of a dump; none of a foreign dump, whose owners, definers and grants are not loaded."""
        if dump.foreign or dump.form == "kept":
            return ()
        return msgspec.json.decode(dump.metadata.get("roles", "[]"), type=list[self.kind])  # type: ignore[name-defined]

    def find_missing(self, dump: Dump, policy: RolePolicy) -> Sequence[MissingRole]:
        """Return the roles of a dump that the server lacks, as ``RestoreTarget.find_missing_roles``."""
        return [
            MissingRole(name=role.name, description=role.describe(policy), is_required=role.is_named)
            for role in self._find_missing(dump, policy)
        ]

    def _find_missing(self, dump: Dump, policy: RolePolicy) -> Sequence[R]:
        roles, known = self.parse(dump), self.read_names()
        named = {role.name for role in roles if role.is_named}
        for name, replacement in policy.replaced.items():
            reason = "" if known is None or replacement in known else f"the server has no {replacement}"
            if "roles" in dump.metadata and name not in named:
                reason = f"the backup does not name {name}"
            if reason:
                raise RoleReplacementInvalidError(
                    target=self._target, name=name, replacement=replacement, reason=reason
                )
        if known is None:
            return ()
        return [role for role in roles if role.name not in known and role.name not in policy.replaced]

    @contextmanager
    def create_missing(
        self, request: LoadRequest, remarks: list[str], *, temporary: bool = False
    ) -> Iterator[tuple[Sequence[R], Sequence[str]]]:
        """Apply ``request.roles`` before a load: yield the created roles, and the names of missing ones that it does without.

        Created roles are dropped if the load fails, or always with ``temporary``; ``remarks`` gets what the user should know.

        Raises:
            RolesMissingError: roles are missing, and the policy refuses that.
            RoleReplacementInvalidError: as ``RestoreTarget.find_missing_roles``.
        """
        policy = request.roles
        missing = () if request.dump.foreign else self._find_missing(request.dump, policy)
        required = [role.name for role in missing if role.is_named]
        if required and policy.missing == "refuse":
            raise RolesMissingError(
                target=self._target, roles=format_count(len(required), "role"), names=", ".join(required)
            )
        created = missing if policy.missing == "create" else ()
        try:
            self._create(created, policy)
            if not temporary:
                remarks += [
                    f"{self.word} {role.name} was created: {role.describe(policy)}" for role in created
                ]
            yield created, required if policy.missing == "skip" else ()
        except BaseException:
            self._drop(created)
            raise
        if temporary:
            self._drop(created)


class RestoreServer(ABC, Generic[S]):
    """Opens sessions on the server of the database at ``url``, which may be missing."""

    def __init__(self, url: Url, target: str) -> None:
        self.url, self.target, self.name = url, target, url.path

    @abstractmethod
    def central(self, timeout: float, *, read_only: bool = False) -> AbstractContextManager[S]:
        """Connect to a database that every server has.

        ``read_only``: also if the server rejects changes, as a replica does.
        """

    @abstractmethod
    def translate_errors(self) -> AbstractContextManager[None]:
        """Convert errors of the driver to those of dbctl."""


V = TypeVar("V", bound=RestoreServer[Any])


@contextmanager
def suggest_scratch() -> Iterator[None]:
    """Add the setting of another server to the hint of a server that is read-only, such as a replica."""
    try:
        yield
    except ReadOnlyError as error:
        error.hint += " Drills, deep verifications and comparisons of backups can use another server: scratch in [apps.NAME.backup]."
        raise


def unsupported_dump_error(location: str, reason: str, hint: str = "") -> NotSupportedError:
    """Return the error of the server at ``location``, which cannot load a dump that may be valid."""
    return NotSupportedError(
        feature="a restore of this dump",
        subject=f"the server at {location}: {reason}",
        hint=f"Nothing was restored; the backup may be valid. {hint}".rstrip(),
    )


class ServerRestore(ABC, Generic[V, S]):
    """Loads a dump into a new database of the server, which may take the place of the old one."""

    def __init__(self, server: V, request: LoadRequest, central: S) -> None:
        """Restore over ``central``, a session with another database of the server."""
        self._server, self._request, self._central = server, request, central
        self.remarks = list[str]()  #: what the user has to check or remove

    @abstractmethod
    def _reserve(self, name: str) -> None:
        """Keep other processes from dropping the database ``name``, until this session ends or ``_drop_old`` drops it."""

    @abstractmethod
    def _drop_old(self, name: str) -> None:
        """Drop the replaced database."""

    @abstractmethod
    def swap(self, new: str, old: str, *, exists: bool) -> None:
        """Give the database ``new`` the place of the old one, which gets the name ``old`` if it ``exists``."""

    @abstractmethod
    def swap_back(self, new: str, old: str, *, exists: bool) -> None:
        """Revert ``swap``."""

    def reserve_old_name(self) -> str:
        """Return the name of the replaced database, which no other process drops."""
        if self._request.retained_name:
            return self._request.retained_name
        name = new_scratch_name(self._server.name)
        self._reserve(name)
        return name

    def drop_old(self, name: str) -> None:
        """Drop the replaced database, unless it is retained."""
        if name != self._request.retained_name:
            with signals.block_signals():
                self._drop_old(name)

    def translate_errors(self) -> AbstractContextManager[None]:
        return self._server.translate_errors()


class StagedSwap(StagedDump):
    """A loaded database that takes the place of the old one; until the end, the old one remains under another name."""

    can_revert = True

    def __init__(self, restore: ServerRestore[Any, Any], new: str, *, exists: bool) -> None:
        self._restore, self._new, self._exists = restore, new, exists
        self._old = ""  #: the name of the replaced database

    def swap(self) -> LoadResult:
        with self._restore.translate_errors():
            old = self._restore.reserve_old_name()
            self._restore.swap(self._new, old, exists=self._exists)
        self._old = old
        return LoadResult(method="swapped" if self._exists else "new", remarks=self._restore.remarks)

    def revert(self) -> None:
        with self._restore.translate_errors():
            self._restore.swap_back(self._new, self._old, exists=self._exists)
        self._old = ""

    def drop_old(self) -> None:
        """Drop the replaced database, unless it is retained."""
        if self._old:
            self._restore.drop_old(self._old)
