"""The table of roles, the permissions that it links, and those of built-in roles, which dbctl never removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from dbctl.engines.contract.database import Condition, Readable, Where
from dbctl.errors.usage import NotSupportedError, RoleMissingError
from dbctl.errors.users import PermissionMissingError
from dbctl.model import KeyText, Row, Struct
from dbctl.profiles.codecs import text_or_none
from dbctl.profiles.model.roles import NamePart, Permissions, Roles
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable, find_named_key
from dbctl.services.app.user_table import UserTable
from dbctl.services.app.validation import truncate


class Role(Struct, frozen=True, kw_only=True):
    """One role; ``permissions`` is None if the app has no permissions."""

    id: object
    name: str
    description: str | None = None
    priority: int | None = None
    users: int
    permissions: Sequence[str] | None = None
    built_in: bool = False

    def summary(self) -> Row:
        count = None if self.permissions is None else len(self.permissions)
        return {word: getattr(self, word) for word in self.__struct_fields__} | {"permissions": count}


class PermissionNames:
    """The names of permissions: the values of a column, or composed of parts."""

    def __init__(self, db: Readable, section: Permissions) -> None:
        parts = section.parts or [NamePart(column=section.name)]
        self.columns = [part.column for part in parts]
        self._separator = section.separator
        self._names = [_read_names(db, part) for part in parts]

    def join(self, values: Sequence[object]) -> str:
        """Return the name of a permission with these values of ``columns``."""
        parts = zip(self._names, values, strict=True)
        return self._separator.join(str(names.get(value, value)) for names, value in parts)


def _read_names(db: Readable, part: NamePart) -> Mapping[object, object]:
    """Return the names in the table of a part, by key."""
    rows = db.select(part.table, [part.key, part.name]) if part.table else []
    return {row[0]: row[1] for row in rows}


class RoleTable:
    """The roles of one open database, in a table."""

    def __init__(self, app: App, db: Readable, feature: str = "roles") -> None:
        """Open the table; ``feature`` is named in the error message.

        Raises:
            FeatureMissingError: the app has no table of roles.
        """
        self.app, self.db = app, db
        self.section: Roles = app.require_section(app.core.roles, feature)
        self.live = LiveTable(app.core, db, self.section.table, "roles")
        self.fields = self.live.map_columns(self.section.fields)

    def read(self, where: Sequence[Where] = ()) -> list[Role]:
        """Return roles with their permissions and numbers of users."""
        columns = [self.section.key, *self.fields.values()]
        rows = self.db.select(self.live.name, columns, where)
        user_counts = self.count_users()
        permitted = self._read_permissions()
        roles = []
        for row in rows:
            record = dict(zip(columns, row, strict=True))
            key = record[self.section.key]
            values = {word: record[column] for word, column in self.fields.items()}
            roles.append(
                Role(
                    id=key,
                    name=str(values["name"]),
                    description=text_or_none(values.get("description")),
                    priority=values.get("priority"),  # type: ignore[arg-type]  # any stored value
                    users=user_counts.get(key, 0),
                    permissions=None if permitted is None else permitted.get(key, []),
                    built_in=key in self.section.built_in.ids
                    or str(values["name"]) in self.section.built_in.names,
                )
            )
        return roles

    def find(self, name: str | KeyText) -> Role:
        """Return the role with this name, ignoring case, or with this ID.

        Raises:
            RoleMissingError: no such role exists.
            AmbiguousNameError: several roles have that name, and none in this spelling.
            NotSupportedError: the role exists, but not as a row of the table.
        """
        if isinstance(name, KeyText):
            return find_by_id(self.read(), name, self.db)
        key = None
        if name.isprintable():
            key = find_named_key(self.db, self.live.name, self.section.key, [self.fields["name"]], name)
        if key is None:
            self._refuse_fixed_role(name)
            names = [role.name for role in self.read()]
            raise RoleMissingError(name=name, target=self.db.target, names=", ".join(names), candidates=names)
        return self.read([Condition(self.section.key, "=", key)])[0]

    def _refuse_fixed_role(self, name: str) -> None:
        users = UserTable(self.app, self.db) if self.app.core.users else None
        if users and users.roles and name.casefold() in map(str.casefold, users.roles.keys.values()):
            hint = f"The rows of users contain it; change roles of {self.live.name} only."
            raise NotSupportedError(
                feature=f"changing the role {name}", subject=self.app.core.title, hint=hint
            )

    def permission_keys(self) -> dict[str, object]:
        section = self.app.require_section(self.section.permissions, "permissions")
        names = PermissionNames(self.db, section)
        rows = self.db.select(section.table, [section.key, *names.columns])
        return {names.join(values): key for key, *values in rows}

    def _read_permissions(self) -> dict[object, list[str]] | None:
        """Return the names of permissions by the key of the role, in the order of the app; None: it has none."""
        section = self.section.permissions
        if section is None:
            return None
        names = {key: name for name, key in self.permission_keys().items()}
        pairs = self.db.select(section.link.table, [section.link.role, section.link.permission])
        linked: dict[object, set[object]] = {}
        for role, permission in pairs:
            linked.setdefault(role, set()).add(permission)
        return {role: [name for key, name in names.items() if key in keys] for role, keys in linked.items()}

    def match_permissions(self, patterns: Sequence[str]) -> list[str]:
        """Return the permissions that match names or patterns; raises as ``match_permissions``."""
        return match_permissions(self.db, list(self.permission_keys()) if patterns else [], patterns)

    def count_users(self, *, with_others: bool = False) -> Mapping[object, int]:
        """Return the numbers of users by the key of their role, ``with_others`` of other rows that have it, such as groups, too.

        Empty in an app whose users have no roles.
        """
        roles = UserTable(self.app, self.db).roles if self.app.core.users else None
        if roles is None:
            return {}
        counts = roles.count_users(with_others=with_others)
        if self.referenced == self.section.key:
            return counts
        users = Counter[str]()  # the collation of the database may ignore case
        for stored, count in counts.items():
            users[str(stored).casefold()] += count
        rows = self.db.select(self.live.name, [self.section.key, self.referenced])
        return {key: users[str(value).casefold()] for key, value in rows}

    @property
    def referenced(self) -> str:
        """The column that the roles of users contain: the key of a role, its name, or another one."""
        users = self.app.core.users
        role = users.role if users else None
        if role is None or role.role_table != self.live.name:
            return self.section.key if role is None else self.fields["name"]
        return role.members.roles.key if role.members and role.members.roles else role.key


def match_permissions(db: Readable, known: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names in ``known`` that match names or patterns such as ``games.*``.

    Raises:
        PermissionMissingError: a pattern matches no permission.
    """
    matched: list[str] = []
    for pattern in patterns:
        matches = [name for name in known if fnmatchcase(name, pattern)] if "*" in pattern else [pattern]
        if not matches or not set(matches) <= set(known):
            raise PermissionMissingError(name=pattern, target=db.target, candidates=known)
        matched += matches
    return list(dict.fromkeys(matched))


def find_by_id(roles: Sequence[Role], selector: KeyText, db: Readable) -> Role:
    """Return the role with this ID.

    Raises:
        RoleMissingError: no such role exists.
    """
    by_key = {str(role.id): role for role in roles}
    if selector.text not in by_key:
        known = ", ".join(f"{key} ({role.name})" for key, role in by_key.items())
        raise RoleMissingError(name=f"id {truncate(selector.text)}", target=db.target, names=known)
    return by_key[selector.text]


OPTIONAL = "?"  #: the suffix of a permission that a deployment may lack


class BuiltInPermissions:
    """The built-in roles of one open database, and their permissions in the profile."""

    def __init__(self, table: RoleTable) -> None:
        self._permissions = table.section.built_in.permissions
        self.roles = [role for role in table.read() if role.built_in]

    def role(self, key: object) -> Role | None:
        return next((role for role in self.roles if str(role.id) == str(key)), None)

    def may_have(self, role: Role, permission: str) -> bool:
        """Whether the role has that permission in at least some deployments of the app."""
        return any(fnmatchcase(permission, item.removesuffix(OPTIONAL)) for item in self._items(role))

    def must_have(self, role: Role, permission: str) -> bool:
        """Whether the role has that permission in every deployment, or in this one if the profile lists none."""
        items = self._items(role)
        if not items:
            return permission in (role.permissions or ())
        return any(fnmatchcase(permission, item) for item in items if not item.endswith(OPTIONAL))

    def is_listed(self, role: Role) -> bool:
        """Whether the profile lists the permissions of that role."""
        return bool(self._items(role))

    def _items(self, role: Role) -> Sequence[str]:
        return self._permissions.get(str(role.id)) or self._permissions.get(role.name, ())
