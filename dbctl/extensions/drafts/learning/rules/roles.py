"""What changes when a user gets another role: columns of the user, or rows of a table of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from dbctl.engines.contract.database import Condition
from dbctl.extensions.drafts import roles, usual_names
from dbctl.extensions.drafts.document import Value, read_lines, write_section, write_stored
from dbctl.extensions.drafts.learning.explain import WRITABLE, Explainer
from dbctl.extensions.drafts.learning.rules.states import UserChange
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson
from dbctl.extensions.drafts.roles import ADMIN, USER
from dbctl.model import Row
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.roles import UserRole
from dbctl.services.app.evidence import subjects

#: The section about roles, empty if the profile has it, and the name of the role that the user got.
LearnedRole: TypeAlias = tuple[dict[str, Value], str]


class RoleRule(UserChange):
    """The row of a user with another role, and the rows with roles."""

    def learn(self) -> Lesson:
        """Return the keys about the role of a user.

        Raises:
            DemonstrationWrongError: neither the row of the user nor a row with roles changed, or the user got another role.
        """
        scene, tables = self.scene, list[str]()
        role, name = self._learn_pairs(tables) or self._learn_columns()
        keys = [scene.create_key("users", "role", value=role)] if role else []
        decided = list[Topic]()
        if name and usual_names.is_admin_role(name) and not self.users.admin:
            keys.append(scene.create_key("users", "admin", value=name))
            decided.append("admin")
        self.explain_others(tables)
        return self.create_lesson(keys, decided)

    def _require_role(self, name: str) -> None:
        subject = self.scene.subject
        if subject.role and subject.role.casefold() != name.casefold():
            raise self.scene.create_error(f"the user got the role {name!r}", "Pass it: --role ROLE.")

    def _read_name(self, table: str, key: str, label: str, value: object) -> str:
        """Return the name of a row of roles after the action; empty: there is no such row."""
        rows = self.paths.after.select(table, [label], [Condition(key, "=", value)])
        return next((str(name) for (name,) in rows), "")

    # Pairs ------------------------------------------------------------------------------------------------------------

    def _learn_pairs(self, explained: list[str]) -> LearnedRole | None:
        """Return what a table of pairs whose rows of the user changed shows, and add it to what is explained."""
        members = self.users.role.members if self.users.role else None
        section = write_section(self.users.role or UserRole())
        for name in dict.fromkeys(row.table for row in self.rows):
            table = self.evidence.tables[name]
            pair = roles.find_pair(self.evidence, self.table, table)
            if members and members.table == name:  # also without foreign keys
                own = self.evidence.tables[members.roles.table] if members.roles else None
                pair = roles.Pair(link=table, user=members.user, role=members.role, table=own)
            elif pair is None or pair.table is None:  # a name that is no row may be anything
                continue
            rows = [row for row in self.rows if row.table == name and self._is_pair(row, pair)]
            if not rows:
                continue
            added = [row.after[pair.role] for row in rows if row.after is not None]
            role = str(added[0]) if added else ""
            if added and pair.table:
                role = self._read_name(pair.table.name, pair.key, pair.label, added[0])
            if role:
                self._require_role(role)
            new = self._learn_further(pair, rows)
            explained += [name, f"{name}.{pair.role}"]
            if members and members.table == name:
                if not new or dict(members.new) == new:
                    return {}, role
                return {**section, "members": {**write_section(members), "new": new}}, role
            entry = read_lines(roles.describe_pair(pair))
            entry |= {"new": new} if new else {}
            return {**_keep_columns(section), "members": entry}, role
        return None

    def _learn_further(self, pair: roles.Pair, rows: Sequence[ChangedRow]) -> dict[str, Value]:
        """Return the further columns of a new pair, as ``users create`` writes them; other values belong to no rule."""
        explainer, new = Explainer(self.scene, self.user), dict[str, Value]()
        covered = (pair.user, pair.role, pair.link.key)
        for row in rows:
            added = row._replace(before=None, after=self.read_values(row, after=True))
            for column, explanation in explainer.explain_row(added, covered=covered):
                place = f"{row.table}.{column}"
                if explanation.kind in (*WRITABLE, "counter") and explanation.value is not None:
                    new[column] = explanation.value
                elif pair.link.columns[column].required and explanation.kind != "actor":
                    self.leave_open("other", f"the value of {place} in a new row is not explained")
                else:
                    self.unrelated[place] = explanation.reason
        return new

    def _is_pair(self, row: ChangedRow, pair: roles.Pair) -> bool:
        """Return whether a row is a pair of the user that was added or deleted, or got another role.

        A changed row may be a new pair with the key of a deleted one, which SQLite assigns again.
        """
        if row.before is None or row.after is None:
            values = row.after or row.before or {}
        elif pair.role in row.after and row.key:
            values = self.read_values(row, after=True) or {}
        else:
            return False
        return str(values.get(pair.user)) == str(self.key)

    # Columns ----------------------------------------------------------------------------------------------------------

    def _learn_columns(self) -> LearnedRole:
        """Return what the columns of the user that changed show."""
        columns = self.columns
        if not columns:
            login = self.scene.subject.login
            raise self.scene.create_error(f"neither the row of {login!r} nor one with a role changed")
        before, after = self.own.before or {}, self.own.after or {}
        section = write_section(self.users.role or UserRole())
        if len(columns) > 1 or section.get("ranks"):
            return self._learn_ranks(section, {name: (before[name], after[name]) for name in columns})
        column = columns[0]
        target = self.table.target(column)
        if target and target[0] in self.evidence.tables:
            label = usual_names.find_name(self.evidence.tables[target[0]], usual_names.LABEL)
            name = self._read_name(*target, label, after[column]) if label else ""
            self._require_role(name)
            return {"column": column, "table": target[0], "key": target[1], "name": label}, name
        return self._learn_labels(section, column, before[column], after[column])

    def _learn_labels(
        self, section: Mapping[str, Value], column: str, before: object, after: object
    ) -> LearnedRole:
        """Return what one column with a value for each role shows."""
        definition, subject = self.table.columns[column], self.scene.subject
        if isinstance(after, str) and definition.native != "boolean":
            self._require_role(after)
            values = self.users.role.values if self.users.role else ()
            if section.get("column") != column:
                return {"column": column}, after
            return ({**section, "values": [*values, after]} if values and after not in values else {}), after
        is_flag = subjects.is_boolean(definition, [before, after])
        if isinstance(before, int) and isinstance(after, int) and before & after:
            return self._learn_bits(section, column, before, after)
        former = section.get("labels") if section.get("column") == column else {}
        labels = dict(former) if isinstance(former, Mapping) else {}
        texts = [  # a profile may write a flag as the number that the app stores
            str(bool(value)).lower() if is_flag and str(value) not in labels else str(value)
            for value in (before, after)
        ]
        name = subject.role or str(labels.get(texts[1], "")) or (ADMIN if is_flag and after else USER)
        labels |= {texts[1]: name}
        labels.setdefault(texts[0], _find_opposite(subject.role or ADMIN))
        role: dict[str, Value] = {"column": column, "labels": labels}
        if default := section.get("default"):
            role["default"] = default if default in labels.values() else labels.get("false", name)
        return ({} if labels == former else role), name

    def _learn_bits(self, section: Mapping[str, Value], column: str, before: int, after: int) -> LearnedRole:
        """Return what a number of whose bits some changed shows."""
        added, removed, place = after & ~before, before & ~after, f"{self.table.name}.{column}"
        if added and removed:
            self.leave_open("other", f"{place} has bits, of which some were set and others cleared")
            return {}, ""
        name = self.scene.subject.role or (ADMIN if added else USER)
        bits = {name: added, _find_opposite(name): removed}
        former = section.get("bits") if section.get("column") == column else None
        if former:
            if former != bits:
                self.leave_open("other", f"the bits of roles in {place} differ from the profile")
            return {}, name
        ordered = dict(sorted(bits.items(), key=lambda item: -item[1]))
        default = next(key for key, value in bits.items() if not value)
        return {"column": column, "bits": ordered, "default": default}, name

    def _learn_ranks(
        self, section: Mapping[str, Value], columns: Mapping[str, tuple[object, object]]
    ) -> LearnedRole:
        """Return what several columns that store a role together show."""
        own: list[Row] = [
            dict(zip(columns, state, strict=True)) for state in zip(*columns.values(), strict=True)
        ]
        former, current = map(self._find_rank, own)
        if former and current:
            self._require_role(current)
            return {}, current
        name = self.scene.subject.role or ADMIN
        opposite = _find_opposite(name)
        entries: list[dict[str, Value]] = [
            {"name": label, "columns": {column: _read_boolean(value) for column, value in state.items()}}
            for label, state in ((name, own[1]), (opposite, own[0]))
        ]
        entries.sort(key=lambda entry: not usual_names.is_admin_role(str(entry["name"])))
        rest = {key: value for key, value in section.items() if key in ("members", "permissions")}
        return {"ranks": entries, "default": USER if USER in (name, opposite) else name, **rest}, name

    def _find_rank(self, values: Row) -> str:
        """Return the name of the first rank that has these values; empty: there is none."""
        for rank in self.users.role.ranks if self.users.role else ():
            names = rank.match or [*rank.columns]
            if all(name in values and rank.columns[name] == _read_boolean(values[name]) for name in names):
                return rank.name
        return ""


def _find_opposite(role: str) -> str:
    """Return the role of a user who is no admin, or of an admin."""
    return USER if usual_names.is_admin_role(role) else ADMIN


def _keep_columns(section: Mapping[str, Value]) -> dict[str, Value]:
    """Return a section as ranks, which may be combined with members; labels of a boolean column are two ranks."""
    column, labels = section.get("column"), section.get("labels")
    if isinstance(column, str) and isinstance(labels, Mapping):
        ranks = [
            {"name": name, "columns": {column: {"true": True, "false": False}.get(text, text)}}
            for text, name in labels.items()
        ]
        return {"ranks": ranks, **({"default": section["default"]} if "default" in section else {})}
    return {name: value for name, value in section.items() if name in ("ranks", "default", "permissions")}


def _read_boolean(value: object) -> Value:
    """Return a stored value in the language of profiles, in which columns of roles are often booleans."""
    return bool(value) if value in (0, 1) else write_stored(value)
