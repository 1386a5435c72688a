"""Roles that a backup names and the server of its restore lacks: list them in a plan, or refuse the restore."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import MissingRole, RestoreTarget, RolePolicy, find_missing_roles
from dbctl.errors import RolesMissingError
from dbctl.model import format_count
from dbctl.services.backup import Member


def plan_roles(
    restore_target: RestoreTarget, member: Member, policy: RolePolicy, target: str
) -> Iterator[str]:
    """Yield the steps for roles of a member that the server of ``restore_target`` lacks.

    Raises:
        RolesMissingError: roles are missing, and ``policy`` refuses that.
        RoleReplacementInvalidError: a replaced role or its replacement does not exist.
    """
    missing = find_missing_roles(restore_target, member.dump, policy)
    required = [role.name for role in missing if role.is_required]
    if required and policy.missing == "refuse":
        raise RolesMissingError(
            target=target, roles=format_count(len(required), "role"), names=", ".join(required)
        )
    for name, replacement in policy.replaced.items():
        yield f"use role {replacement} in place of {name}"
    for role in missing:
        yield from _plan_role(role, policy)


def _plan_role(role: MissingRole, policy: RolePolicy) -> Iterator[str]:
    if policy.missing == "create":
        yield f"create role {role.name}, which the server lacks: {role.description}"
    elif role.is_required:
        yield f"leave out ownership and grants of role {role.name}, which the server lacks"


def describe_missing_roles(restore_target: RestoreTarget, member: Member) -> list[str]:
    """Return the roles of a member that the server of its restore lacks, each with its attributes."""
    return [
        f"{role.name} ({role.description})"
        for role in find_missing_roles(restore_target, member.dump, RolePolicy())
        if role.is_required
    ]
