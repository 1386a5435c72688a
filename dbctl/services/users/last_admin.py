"""Guards: no command removes the last active admin of an app, and exactly one user has its exclusive role, such as the owner."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta

from dbctl.engines.contract.checks import PlannedRows
from dbctl.engines.contract.database import Readable
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.errors.usage import ProfileContradictionError
from dbctl.errors.users import AdminUndecidedError, LastAdminError, RoleExclusiveError, RoleFormError
from dbctl.profiles.codecs import read_boolean, read_known_time
from dbctl.profiles.model.users import Users
from dbctl.services.app.app import App
from dbctl.services.app.user_roles.form import Assignment
from dbctl.services.app.user_table import User, UserTable, users_database

#: Time limit of a read that only verifies that it is permitted.
_READ_LIMIT = timedelta(seconds=1)


def refuse_last_admin(users: UserTable, leaving: Iterable[User]) -> None:
    """Refuse a change that would remove the last active user with the admin role; call it inside the transaction.

    Raises:
        AdminUndecidedError: the profile does not say who is an admin.
        DecisionOpenError: the profile leaves open who is active, and an admin leaves.
        LastAdminError: the ``leaving`` users, who lose the role or are deleted, are the last.
        RoleFormError, ProfileContradictionError: the profile contradicts the stored roles, or who is active, so the last
            admin is not known.
    """
    leaving_ids = {user.id for user in leaving}
    if not leaving_ids:
        return
    require_admin_decision(users)
    _require_consistent_roles(users)
    admins = _active_admins(users)
    remaining = [user for user in admins if user.id not in leaving_ids]
    _require_admin(users, admins, remaining)


def require_admin_decision(users: UserTable) -> None:
    """Refuse a change that could remove an admin if the profile does not say who is one.

    Raises:
        AdminUndecidedError: see above.
    """
    if users.section.admin == "":
        candidates = "; ".join(users.app.core.undecided.get("admin", ()))
        raise AdminUndecidedError(
            profile=users.app.core.name, reason=f" ({candidates})" if candidates else ""
        )


@contextmanager
def guard_holders(app: App, database: str, db: Readable, tables: Collection[str]) -> Iterator[None]:
    """Refuse, at the end, changes of the open transaction to the holders of the admin role and of the exclusive role.

    ``tables`` are the changed tables. If none of them takes part in the rules, only a trigger of the app could break them: the
    rules are not checked then if the profile contradicts the roles, or if they cannot be read.

    Raises:
        LastAdminError: there was an active admin before, and there is none now.
        RoleExclusiveError: several users, or none, have the exclusive role.
        AdminUndecidedError, DecisionOpenError, RoleFormError, ProfileContradictionError: see ``refuse_last_admin``.
    """
    section = app.core.users
    exclusive = section.role.exclusive if section and section.role else ""
    if not (section and app.resolve_database(section) == database) or (
        section.admin is False and not exclusive
    ):
        yield
        return
    users = UserTable(app, db)
    with guard_unknown_admin(users, tables):
        takes_part = is_relevant(section, db, tables)
        if not (section.admin or exclusive) or not (takes_part or can_read_roles(users)):
            yield
            return
        if takes_part and section.admin:
            _require_consistent_roles(users)
        admins = _active_admins(users, for_update=takes_part) if section.admin else []
        holders_before = list_holders(users, for_update=takes_part)
        enabled = _find_enabled(users, admins)
        yield
        after = UserTable(app, db)  # the change may have deleted or renamed roles
        if exclusive:
            former_ids, holders = {user.id for user in holders_before}, list_holders(after)
            remaining = len([user for user in holders if user.id in former_ids])
            _require_one(
                after, exclusive, holders_before, remaining=remaining, added=len(holders) - remaining
            )
        admins_after = _active_admins(after, for_update=takes_part) if section.admin else []
        _require_admin(users, admins, admins_after)
        if enabled and not _find_enabled(after, admins_after):
            users.app.require_decision("active", "the deactivation of the last admin")


def refuse_planned(app: App, database: str, db: Readable, changes: Sequence[PlannedRows]) -> None:
    """Refuse planned changes as ``guard_holders``; an engine without ``Readable.explainer`` refuses them when they are applied."""
    section, tables = app.core.users, {change.table for change in changes}
    # Other tables must not fail because the profile does not match the users.
    if section and db.explainer and is_relevant(section, db, tables):
        with ExitStack() as planned, guard_holders(app, database, db, tables):
            planned.enter_context(db.explainer.read_after(changes))


@contextmanager
def guard_unknown_admin(users: UserTable, tables: Collection[str]) -> Iterator[None]:
    """Refuse, at the end, changes that deleted or deactivated a user, or changed the rights of one, while the profile leaves open who is an admin.

    Raises:
        AdminUndecidedError: there was such a user.
    """
    if users.section.admin != "" or not is_relevant(users.section, users.db, tables):
        yield
        return
    before = _read_rights(users)
    yield
    after = _read_rights(users)
    if any(after.get(key) != rights for key, rights in before.items()):
        require_admin_decision(users)


def _read_rights(users: UserTable) -> dict[object, tuple[object, ...]]:
    """Return, by the key of each active user, the roles, and the values of columns whose names may show an admin."""
    from dbctl.services.app.evidence import references
    from dbctl.services.app.evidence.gather import TableEvidence

    table = TableEvidence(name=users.live.name, columns=users.live.table.columns)
    patterns = (references.ADMIN_FLAG, references.ADMIN_CANDIDATE, references.ROLE)
    columns = dict.fromkeys(
        column for pattern in patterns for column in references.match_columns(table, pattern)
    )
    roles = {user.id: tuple(user.role_names) for user in users.read([]) if may_sign_in(users, user)}
    rows = users.db.select(users.live.name, [users.id, *columns])
    return {key: (roles[key], *values) for key, *values in rows if key in roles}


def _find_enabled(users: UserTable, admins: Sequence[User]) -> set[object]:
    """Return the keys of the admins whom no column shows as inactive by its name, if the profile leaves open who is."""
    if "active" in users.field_names or "active" not in users.app.core.undecided:
        return set()
    from dbctl.services.app.evidence import references
    from dbctl.services.app.evidence.gather import TableEvidence

    table = TableEvidence(name=users.live.name, columns=users.live.table.columns)
    flags = references.match_columns(table, references.INACTIVE_FLAG)
    times = references.match_columns(table, references.INACTIVE_TIME)
    rows = users.db.select(users.live.name, [users.id, *flags, *times], [users.where_ids(admins)])
    count = len(flags)
    return {
        key
        for key, *values in rows
        if not (any(map(read_boolean, values[:count])) or any(map(read_known_time, values[count:])))
    }


def is_relevant(section: Users, db: Readable, tables: Collection[str]) -> bool:
    """Return whether a change of a table can change the roles of users or who is active, also by its foreign keys."""
    from dbctl.services.deletion.cascade import find_dependent_tables

    return any(section.rights_tables.intersection(find_dependent_tables(db, table)) for table in tables)


def can_read_roles(users: UserTable) -> bool:
    """Return whether the database role may read the users and their roles, and the profile does not contradict them.

    It reads with a time limit, because a denied privilege would otherwise end the transaction.
    """
    tables = {users.live.name: [users.id, *users.fields.values()]}
    for name in users.roles.tables if users.roles else ():
        tables.setdefault(name, list(users.db.tables()[name].columns) if name in users.db.tables() else [])
    try:
        for name, columns in tables.items():
            if users.db.sample(name, columns, rows=1, timeout=_READ_LIMIT) is None:
                return False
        _require_consistent_roles(users)
    except (PrivilegeMissingError, RoleFormError, ProfileContradictionError):
        return False
    return True


def _require_consistent_roles(users: UserTable) -> None:
    if users.roles and users.section.admin_role:
        users.roles.require_consistent()
        if "active" in users.fields:
            from dbctl.services.app.evidence.facts import refuse_contradictions

            refuse_contradictions(users.app, users_database(users.app), users.db, ("active-known",))


def _active_admins(users: UserTable, *, for_update: bool = True) -> list[User]:
    # The rows are locked: the app may remove the role of another admin concurrently.
    return [user for user in list_admins(users, for_update=for_update) if may_sign_in(users, user)]


def _require_admin(users: UserTable, before: Sequence[User], after: Sequence[User]) -> None:
    """Refuse a change of the active admins, from ``before`` to ``after``, that leaves none."""
    if before and not after:
        logins = ", ".join(user.login for user in before)
        raise LastAdminError(target=users.db.target, role=admin_role(users), logins=logins)
    if "active" not in users.field_names and {user.id for user in before} - {user.id for user in after}:
        # the others may be unable to sign in
        users.app.require_decision("active", "the removal of an admin")


def list_admins(users: UserTable, *, for_update: bool) -> list[User]:
    """Return the users with the admin role, unless it may expire; empty if the app has no such role."""
    role = admin_role(users)
    if not (users.roles and role):
        return []
    return users.read([users.roles.where_lasting(role, for_update=for_update)], for_update=for_update)


def admin_role(users: UserTable) -> str:
    """Return the name of the admin role, as the app spells it; empty if the app has none."""
    return (
        next((name for name in users.roles.keys.values() if is_admin(users, name)), "") if users.roles else ""
    )


def may_sign_in(users: UserTable, user: User) -> bool:
    """Return whether a user is active; always true if the app does not store it."""
    return bool(user.active) or "active" not in users.field_names


def is_admin(users: UserTable, role: str | None) -> bool:
    return bool(role) and str(role).casefold() == users.section.admin_role.casefold()


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
    return next((name for name in users.roles.keys.values() if name.casefold() == exclusive), "")


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
