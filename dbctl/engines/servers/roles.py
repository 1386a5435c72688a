"""Roles and accounts that a dump names: their form in its manifest, and the refusal of a load whose server lacks some."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

import msgspec

from dbctl.engines.contract.dumps import Dump, RolePolicy
from dbctl.errors.restore import RolesMissingError
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
