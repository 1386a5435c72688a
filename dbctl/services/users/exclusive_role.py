"""Guard: exactly one user has the role that the profile declares as exclusive, such as the owner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from dbctl.engines.contract.database import Readable
from dbctl.errors.users import RoleExclusiveError
from dbctl.services.app.app import App
from dbctl.services.app.user_roles.form import Assignment
from dbctl.services.app.user_table import User, UserTable
from dbctl.services.users import last_admin

EXAMPLES = 5  #: maximum number of logins in a finding


def refuse_shared_role(users: UserTable, assignments: Iterable[Assignment]) -> None:
    """Refuse changes of roles after which several users, or none, would have the exclusive role.

    A change that only reduces several holders is allowed. Inside the transaction, the rows of the holders are locked.

    Raises:
        RoleExclusiveError: names the present holders.
    """
    role, changes = find_exclusive_role(users), list(assignments)
    if not role:
        return
    removed = {item.user for item in changes if role in item.removed}
    added = len([item for item in changes if role in item.added])
    if added or removed:
        holders = list_holders(users, for_update=True)
        remaining = len([user for user in holders if user.id not in removed])
        _require_one(users, role, holders, remaining=remaining, added=added)


@contextmanager
def guard_exclusive_role(app: App, database: str, db: Readable, tables: Collection[str]) -> Iterator[None]:
    """Refuse, at the end, changes of the open transaction; ``tables`` as for ``guard_last_admin``; raises as ``refuse_shared_role``."""
    section = app.profile.users
    role = section.role.exclusive if section and section.role else ""
    if not (section and role and app.resolve_database(section) == database):
        yield
        return
    users = UserTable(app, db)
    takes_part = last_admin.is_relevant(users, tables)
    if not (takes_part or last_admin.can_read_roles(users)):
        yield
        return
    before = list_holders(users, for_update=takes_part)
    yield
    users = UserTable(app, db)  # the change may have renamed roles
    former_ids = {user.id for user in before}
    holders = list_holders(users)
    remaining = len([user for user in holders if user.id in former_ids])
    _require_one(users, role, before, remaining=remaining, added=len(holders) - remaining)


def list_holders(users: UserTable, *, for_update: bool = False) -> list[User]:
    """Return the users with the exclusive role; empty if the app has no such role."""
    role = find_exclusive_role(users)
    if not (users.roles and role):
        return []
    return users.read([users.roles.where(role, for_update=for_update)], for_update=for_update)


def find_exclusive_role(users: UserTable) -> str:
    """Return the name of the exclusive role, as the app spells it; empty if the app has none."""
    if not (users.roles and (exclusive := users.roles.section.exclusive.casefold())):
        return ""
    return next((name for name in users.roles.names() if name.casefold() == exclusive), "")


def find_holder_problem(users: UserTable) -> str:
    """Return why the stored roles violate the rule; empty if they do not."""
    role, holders = find_exclusive_role(users), list_holders(users)
    if len(holders) > 1:
        logins = ", ".join(user.login for user in holders[:EXAMPLES])
        more = " …" if len(holders) > EXAMPLES else ""
        return f"{len(holders)} users have the role {role}, which only one may have: {logins}{more}"
    if role and not holders and users.db.count(users.live.name, users.only):
        return f"no user has the role {role}, which exactly one must have"
    return ""


def _require_one(
    users: UserTable, role: str, holders: Collection[User], *, remaining: int, added: int
) -> None:
    has_too_many = added > 0 and remaining + added > 1
    has_none = bool(holders) and not (remaining or added)
    if has_too_many or has_none:
        logins = ", ".join(user.login for user in holders) or "none"
        raise RoleExclusiveError(target=users.db.target, role=role, logins=logins)
