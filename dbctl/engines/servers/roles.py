"""Roles and accounts that a dump names: a load creates those that its server lacks, does without them, or refuses that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from dbctl.engines.contract.dumps import Dump, LoadRequest, MissingRole, RolePolicy
from dbctl.errors.restore import RoleReplacementInvalidError, RolesMissingError
from dbctl.model import format_count

OMIT_SECRETS = "Omit --secrets, or connect as a user who may read them."


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
