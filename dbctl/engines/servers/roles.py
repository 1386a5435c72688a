"""Roles and accounts that a dump names: their form in its manifest, and the refusal of a load whose server lacks some."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec

from dbctl.engines.contract.dumps import Dump, RolePolicy
from dbctl.errors.restore import RoleReplacementInvalidError, RolesMissingError
from dbctl.model import format_count

OMIT_SECRETS = "Omit --secrets, or connect as a user who may read them."


class DumpedRole(Protocol):
    """A role of a server, or an account."""

    @property
    def name(self) -> str: ...

    @property
    def is_named(self) -> bool:
        """Whether statements of the dump name it."""


R = TypeVar("R", bound=DumpedRole)


def parse_roles(dump: Dump, kind: type[R]) -> Sequence[R]:
    """Return the roles of a dump; none of a foreign dump, whose owners, definers and grants are not loaded."""
    if dump.foreign or dump.form == "kept":
        return ()
    return msgspec.json.decode(dump.metadata.get("roles", "[]"), type=list[kind])  # type: ignore[valid-type]


def select_missing_roles(
    roles: Sequence[R], known: Collection[str] | None, dump: Dump, policy: RolePolicy, target: str
) -> Sequence[R]:
    """Return the roles of a dump that the server lacks; ``known``: those that it has; None: this is not visible.

    Raises:
        RoleReplacementInvalidError: the policy replaces a role that the dump does not name, or by one that the server lacks.
    """
    named = {role.name for role in roles if role.is_named}
    for name, replacement in policy.replaced.items():
        reason = "" if known is None or replacement in known else f"the server has no {replacement}"
        if "roles" in dump.metadata and name not in named:
            reason = f"the backup does not name {name}"
        if reason:
            raise RoleReplacementInvalidError(
                target=target, name=name, replacement=replacement, reason=reason
            )
    if known is None:
        return ()
    return [role for role in roles if role.name not in known and role.name not in policy.replaced]


def refuse_missing_roles(missing: Iterable[DumpedRole], policy: RolePolicy, target: str) -> list[str]:
    """Return the names of missing roles that a dump names, if the policy accepts that they are missing.

    Raises:
        RolesMissingError: the policy refuses that.
    """
    required = [role.name for role in missing if role.is_named]
    if required and policy.missing == "refuse":
        raise RolesMissingError(
            target=target, roles=format_count(len(required), "role"), names=", ".join(required)
        )
    return required
