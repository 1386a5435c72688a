"""What a new user is: the values of its row, rows of other tables, and its role."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property

from msgspec import structs

from dbctl.extensions.drafts import new_users, sign_ins, usual_names
from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.explain import WRITABLE, Explainer, Explanation, list_added, summarize
from dbctl.extensions.drafts.learning.rules.passwords import learn_first_password
from dbctl.extensions.drafts.learning.rules.user_rows import RECORD
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import format_count, sort_by_use
from dbctl.profiles.codecs import read_text, read_time
from dbctl.profiles.templates import FILTERS, filter_text
from dbctl.services.app.evidence import subjects
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_roles.form import RoleForm, create_role_form
from dbctl.services.app.user_table import is_active

#: Fields to which dbctl itself writes the time of the change.
_WRITTEN_TIMES = ("created_at", "updated_at")


# The new user ---------------------------------------------------------------------------------------------------------


def find_new_user(scene: Scene) -> ChangedRow:
    """Return the added row of users, with the entered login.

    Raises:
        DemonstrationWrongError: none was added, or the new user has another login.
    """
    users, login = scene.users, scene.subject.login
    added = [row for row in list_added(scene) if _is_user(scene, row)]
    if added:
        if _has_text(added[0], login):
            return added[0]
        raise scene.create_error(f"the new user has not the login {login!r}")
    if scene.list_users():
        raise scene.create_error(
            f"{login!r} was a user before the action", "Repeat it in the app with a login that no user has."
        )
    others = [row.table for row in list_added(scene) if _has_text(row, login)]
    if others:
        raise scene.create_error(
            f"no row was added to {users.table}, but a row of {others[0]} has the login",
            f"If that is a table of users, learn it in another file: --users {others[0]}.",
        )
    raise scene.create_error(
        f"no row was added to {users.table}", "Check that the app created the user, in this database."
    )


def _is_user(scene: Scene, row: ChangedRow) -> bool:
    return row.table == scene.users.table and row.database == scene.users_database


def _has_text(row: ChangedRow, text: str) -> bool:
    """Return whether a column of an added row has a text, in any case."""
    texts = [read_text(value) for value in (row.after or {}).values() if isinstance(value, str | bytes)]
    return text.casefold() in map(str.casefold, texts)


class UserCreationRule:
    """The rows of a demonstration that created a user."""

    def __init__(self, scene: Scene) -> None:
        """Find the user; raises as ``find_new_user``."""
        self._scene, self._users, self._row = scene, scene.users, find_new_user(scene)
        self._explainer = Explainer(scene, self._row.after or {})
        self._decisions, self._unrelated = list[Decision](), dict[str, str]()

    def learn(self) -> Lesson:
        """Return the values and rows of a new user, and its role as the default."""
        login, fields = self._learn_login()
        tables = self._sort_tables(self._select_companions())
        first = {
            rows[0].table for rows in tables if any(self._explainer.refers(self._row, row) for row in rows)
        }
        sections = [self._learn_companion(rows) for rows in tables if rows[0].table in first]
        own = self._explain_user(login, fields)
        sections += [self._learn_companion(rows) for rows in tables if rows[0].table not in first]
        keys = [
            *fields,
            self._scene.create_key("users", "login", value=login),
            self._create_key("new", explained=own),
            self._scene.create_key("users", "create", value=sections),
            *self._learn_role(),
            *self._learn_match(),
        ]
        self._judge_changes()
        passwords = learn_first_password(self._scene, self._row.after or {})
        return Lesson(
            keys=[*(key for key in keys if key.value or self._has_key(key)), *passwords.keys],
            decided=["new-users", "login", *passwords.decided],
            decisions=[*self._decisions, *passwords.decisions],
            notes=passwords.notes,
            unrelated=self._unrelated,
        )

    def _create_key(self, *path: str, explained: Mapping[str, Explanation]) -> LearnedKey:
        """Return a key with the values of columns."""
        remark = f"; {summarize(explained)}" if explained else ""
        return self._scene.create_key("users", *path, value=_list_values(explained), remark=remark)

    def _has_key(self, key: LearnedKey) -> bool:
        """Return whether the profile has a key, which an empty value replaces."""
        value: object = self._users
        for name in key.path[1:]:
            value = getattr(value, name, None)
        return bool(value)

    def _leave_open(self, place: str, reason: str) -> None:
        self._decisions.append(Decision("new-users", f"{place}: {reason}"))

    def _learn_match(self) -> Iterator[LearnedKey]:
        """Yield how logins are compared, if a user with the entered one in another case existed."""
        if self._users.match != "exact" and self._scene.list_users():
            yield self._scene.create_key("users", "match", value="exact")

    # The row of the user -----------------------------------------------------------------------------------------

    def _learn_login(self) -> tuple[list[str], list[LearnedKey]]:
        """Return the fields that identify users, the entered one first, and the keys of a field that the profile lacks."""
        entered, columns = self._scene.subject.login, self._scene.user_fields
        texts = {
            name: read_text(value)
            for name, value in (self._row.after or {}).items()
            if isinstance(value, str | bytes)
        }
        same = [name for name, text in texts.items() if text.casefold() == entered.casefold()]
        known = [field for field, column in columns.items() if column in same]
        own = [field for field in self._users.login if field in known] or known
        keys = []
        if not own:
            own = ["username" if "username" not in columns else same[0]]
            keys.append(self._scene.create_key("users", "fields", own[0], value=same[0]))
        if texts[columns.get(own[0], same[0])] == entered.lower() != entered:
            keys.append(self._scene.create_key("users", "rules", own[0], "lowercase", value=True))
        others = [
            field
            for field in self._users.login
            if field not in own
            and texts.get(columns.get(field, ""))
            and not self._is_derived(own[0], field, texts)
        ]
        return [*own, *others], keys

    def _is_derived(self, login: str, field: str, texts: Mapping[str, str]) -> bool:
        """Return whether the value of a field is a form of the login, which the app wrote without an entry."""
        columns = self._scene.user_fields
        source = texts[columns[login]] if login in columns else self._scene.subject.login
        return any(texts[columns[field]] == filter_text(source, name) for name in FILTERS)

    def _explain_user(self, login: Sequence[str], keys: Sequence[LearnedKey]) -> dict[str, Explanation]:
        """Return the columns of the user that dbctl can write; others are open decisions, or unrelated."""
        users, table, values = self._users, self._row.table, self._row.after or {}
        evidence = self._explainer.read_table(self._row.database, table)
        fields = {column: field for field, column in self._scene.user_fields.items()}
        fields |= {str(key.value): key.path[2] for key in keys if key.path[1] == "fields"}
        covered = {users.id.column, *users.only, *(users.password.columns if users.password else ())}
        covered |= set(role.columns) if (role := self._open_roles()) else set()
        explained = dict[str, Explanation]()
        for column, value in values.items():
            field = fields.get(column, "")
            if column in covered or evidence.columns[column].is_generated or value is None:
                continue
            explanation = self._explainer.explain(self._row, column, field=field)
            if field and self._is_covered(field, login, explanation, value):
                continue
            place = f"{table}.{column}"
            if explanation.kind == "actor" or (field == "last_login_at" and explanation.kind == "time"):
                is_actor = explanation.kind == "actor"
                self._unrelated[place] = (
                    explanation.reason if is_actor else "the time of a sign-in, not of the creation"
                )
            elif explanation.kind in WRITABLE:
                explained[column] = explanation
            elif explanation.kind != "password" or users.password:
                self._leave_open(place, explanation.reason)
        return explained

    def _is_covered(self, field: str, login: Sequence[str], explanation: Explanation, value: object) -> bool:
        """Return whether dbctl writes the field of a new user without a value of the profile."""
        if field == "active":
            return is_active(self._users.active, value)
        if field in _WRITTEN_TIMES:
            return explanation.kind == "time"
        if field == login[0] or (field == "email" and self._scene.subject.email):
            return True
        is_text = isinstance(value, str | bytes) and not read_time(value)
        if value and usual_names.PERSONAL.search(field) and not usual_names.PREFERENCE.search(field):
            return explanation.kind != "entered"  # another person may have the same name
        return is_text and explanation.kind not in ("entered", "constant")

    # Rows of other tables -------------------------------------------------------------------------------------------

    def _select_companions(self) -> list[ChangedRow]:
        """Return the added rows of other tables that belong to the user, and note the others."""
        rows = [
            row for row in list_added(self._scene) if not (row.table == self._row.table or self._is_role(row))
        ]
        rows = [row for row in rows if not self._is_record(row)]
        connected = [self._row]
        while linked := [row for row in rows if row not in connected and self._is_linked(row, connected)]:
            connected += linked
        for row in rows:
            if row not in connected:
                self._unrelated[row.table] = "its new rows do not refer to the new user"
        return connected[1:]

    def _is_linked(self, row: ChangedRow, connected: Sequence[ChangedRow]) -> bool:
        refers = self._explainer.refers
        return any(refers(row, other) or refers(other, row) for other in connected)

    def _is_role(self, row: ChangedRow) -> bool:
        role = self._users.role
        tables = [part.table for part in (role.members, role.metadata) if part] if role else []
        return row.table in tables

    def _is_record(self, row: ChangedRow) -> bool:
        """Return whether a row only records the action, or signs the user in."""
        if usual_names.is_log(row.table):
            self._unrelated[row.table] = RECORD
        elif row.table in self._sign_in_tables:
            self._unrelated[row.table] = "it signs the user in"
        else:
            return False
        return True

    @cached_property
    def _sign_in_tables(self) -> set[str]:
        """The tables of sign-ins: those of the profile, and those named after sessions in which not every user has a row."""
        scene, evidence = self._scene, self._scene.evidence[self._row.database]
        table = evidence.tables[self._row.table]
        companions = new_users.find_companions(evidence, scene.before[self._row.database], table, ())
        of_each = {reference.table for reference in companions}
        named = {other.name for other in evidence.base_tables() if sign_ins.find_kind(other) == "session"}
        return {*self._users.sign_in_tables, *(named - of_each)}

    def _sort_tables(self, rows: Sequence[ChangedRow]) -> list[list[ChangedRow]]:
        """Return the rows by table: a table after those to which it refers."""
        tables = dict[str, list[ChangedRow]]()
        for row in rows:
            tables.setdefault(row.table, []).append(row)

        def list_parents(name: str) -> list[str]:
            refers, others = self._explainer.refers, [other for other in rows if other.table != name]
            return [other.table for other in others if any(refers(row, other) for row in tables[name])]

        return [tables[name] for name in sort_by_use(tables, list_parents)]

    def _learn_companion(self, rows: Sequence[ChangedRow]) -> Mapping[str, Value]:
        """Return the section about added rows of one table."""
        table = self._explainer.read_table(rows[0].database, rows[0].table)
        all_values, user = list[dict[str, Value]](), ""
        for position, row in enumerate(rows):
            explained = self._explain_row(row, position)
            own = [column for column, item in explained.items() if item.value == "{id}"]
            user = user or next(iter(own), "")
            all_values.append(_list_values({name: item for name, item in explained.items() if name != user}))
        self._explainer.add_known(rows[0].database, table.name, rows[0].after or {})
        section: dict[str, Value] = {"table": table.name}
        section |= {"user": user} if user else {}
        common = {
            name: value
            for name, value in all_values[0].items()
            if all(other.get(name) == value for other in all_values)
        }
        section |= {"values": common} if common else {}
        differing = [
            {name: value for name, value in values.items() if name not in common} for values in all_values
        ]
        return section | ({"rows": differing} if len(rows) > 1 else {})

    def _explain_row(
        self, row: ChangedRow, position: int = 0, covered: Collection[str] = ()
    ) -> dict[str, Explanation]:
        """Return the columns of an added row that dbctl can write; others are open decisions, or unrelated."""
        explained = dict[str, Explanation]()
        for column, explanation in self._explainer.explain_row(row, position, covered):
            if explanation.kind in (*WRITABLE, "counter"):
                explained[column] = explanation
            elif explanation.kind == "actor":
                self._unrelated[f"{row.table}.{column}"] = explanation.reason
            else:
                self._leave_open(f"{row.table}.{column}", explanation.reason)
        return explained

    # Roles and other changes ----------------------------------------------------------------------------------------

    def _open_roles(self) -> RoleForm | None:
        db = self._scene.after[self._row.database]
        return create_role_form(self._users, LiveTable(self._scene.profile, db, self._row.table, "users"), [])

    def _learn_role(self) -> Iterator[LearnedKey]:
        """Yield the role of the new user, which is the default, and further columns of the row that gives it."""
        names = self._read_roles()
        if len(names) == 1 and self._scene.action == "create-user":
            yield self._scene.create_key("users", "role", "default", value=names[0])
        members = self._users.role.members if self._users.role else None
        rows = [row for row in list_added(self._scene) if members and row.table == members.table]
        if members and rows:
            covered = {
                members.user,
                members.role,
                *members.where,
                *([members.id.column] if members.id else []),
            }
            explained = self._explain_row(rows[0], covered=covered)
            yield self._create_key("role", "members", "new", explained=explained)

    def _read_roles(self) -> list[str]:
        """Return the names of the roles of the new user."""
        roles = self._open_roles()
        return roles.read([self._row.after or {}])[0] if roles else []

    def _judge_changes(self) -> None:
        """Leave open what changed in rows that existed before: nothing that dbctl writes for a new user does it.

        What changed without an action, too, is no longer part of the scene.
        """
        seen = dict[str, list[str]]()
        for row in self._scene.list_rows():
            if row.before is None or self._is_record(row):
                continue
            if row.after is None:
                seen.setdefault(row.table, []).append("the app deletes a row that existed before")
                continue
            columns = self._scene.evidence[row.database].tables[row.table].columns
            for column, value in row.after.items():
                place = f"{row.table}.{column}"
                if subjects.is_time(columns[column], [value]):
                    self._unrelated.setdefault(place, "a time of a row that existed before")
                elif isinstance(value, str) and self._scene.subject.login in value:
                    seen.setdefault(place, []).append(
                        "the value of a row that existed before names the new user"
                    )
                else:
                    seen.setdefault(place, []).append(_describe_change(row, column))
        for place, reasons in seen.items():
            others = f"; {format_count(len(reasons) - 1, 'other row')} changed, too" if reasons[1:] else ""
            self._leave_open(place, reasons[0] + others)


class AdminCreationRule(UserCreationRule):
    """The rows of a demonstration that created an admin."""

    def learn(self) -> Lesson:
        """Return the role of admins, and what an ordinary user is if no demonstration created one."""
        lesson, roles, scene = super().learn(), self._read_roles(), self._scene
        role = scene.subject.role if scene.subject.role in roles else next(iter(roles), "")
        if "create-user" in scene.learned:
            lesson = Lesson(decided=["login"], unrelated=lesson.unrelated)
        default = self._users.role.default if self._users.role else ""
        if role and role != default:
            keys = [*lesson.keys, scene.create_key("users", "admin", value=role)]
            return structs.replace(lesson, keys=keys, decided=[*lesson.decided, "admin"])
        reason = (
            f"the new admin has the role {role!r} of ordinary users"
            if role
            else "the profile names no roles of users"
        )
        decision = Decision("admin", f"how a user becomes an admin: {reason}")
        return structs.replace(lesson, decisions=[*lesson.decisions, decision])


def _describe_change(row: ChangedRow, column: str) -> str:
    """Return what an action changed in a column of a row; texts can be secret, or long, and are not shown."""
    values = [(row.before or {})[column], (row.after or {})[column]]
    is_shown = all(value is None or isinstance(value, bool | int | float) for value in values)
    first, second = ("NULL" if value is None else value for value in values)
    steps = f" from {first} to {second}" if is_shown else ""
    return f"the app changes the value of a row that existed before{steps}"


def _list_values(explained: Mapping[str, Explanation]) -> dict[str, Value]:
    return {column: item.value for column, item in explained.items() if item.value is not None}
