"""Draft the roles of users: a column of names, a reference to a table of roles, a boolean column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dbctl.model import Struct
from dbctl.services.app.evidence import Evidence, TableEvidence, names, values
from dbctl.services.profiles.draft.document import Line, Part, Value, write_header

#: The most different values of a column of roles.
MOST_ROLES, LONGEST_ROLE = 12, 40


class RoleDraft(Struct, frozen=True, kw_only=True):
    """The lines and sections about roles."""

    columns: Sequence[str] = ()  #: the columns of users that the profile covers
    lines: Sequence[Line | str] = ()
    parts: Sequence[Part] = ()
    decisions: Sequence[str] = ()


def draft_role(evidence: Evidence, users: TableEvidence) -> RoleDraft:
    """Return the lines about the roles of users; candidates if several forms are possible."""
    candidates = names.match_columns(users, names.ROLE)
    for column in candidates:
        target = users.target(column)
        table = evidence.tables.get(target[0]) if target else _find_roles_table(evidence, column)
        if table and (label := _find_label(table)):
            return _describe_table(evidence, users, column, table, target[1] if target else table.key, label)
    for column in candidates:
        if labels := list(users.columns[column].labels) or _list_labels(users, column):
            return _describe_labels(users, column, labels)
    flags = [
        column
        for column in names.match_columns(users, names.ADMIN_FLAG)
        if values.is_boolean(users.columns[column], users.values(column))
    ]
    if flags:
        return _describe_flag(users, flags)
    joins = list(_find_join_tables(evidence, users))
    if joins:
        remarks = [f"roles through a join table: {', '.join(joins)}"]
        return RoleDraft(lines=[f"A role may be a row of: {', '.join(joins)}"], decisions=remarks)
    return RoleDraft()


# A table of roles -------------------------------------------------------------------------------------------------


def _find_roles_table(evidence: Evidence, column: str) -> TableEvidence | None:
    """Return the table that a column without a foreign key refers to by its name."""
    if names.normalize(column) not in ("role_id", "roleid", "role_uuid"):
        return None
    tables = [
        table for table in evidence.base_tables() if names.ROLES_TABLE.search(names.normalize(table.name))
    ]
    return tables[0] if len(tables) == 1 else None


def _find_label(table: TableEvidence) -> str:
    return next(iter(names.find_names(table, names.LABEL)), "")


def _describe_table(
    evidence: Evidence, users: TableEvidence, column: str, table: TableEvidence, key: str, label: str
) -> RoleDraft:
    stored = [str(value) for value in table.values(label)]
    source = "foreign key" if users.target(column) else "names of the columns"
    role = {"column": column, "table": table.name, "key": key, "name": label}
    admin, decisions = _choose_admin(stored)
    codec, codec_evidence = values.guess_key_codec(table.columns[key], table.values(key))
    fields = {"name": label} | {
        field: found[0]
        for field in ("description", "priority")
        if (found := names.find_names(table, [field]))
    }
    lines = [Line("table", table.name, f"{len(stored)} roles"), Line("key", key)]
    lines += [Line("codec", codec, codec_evidence)] if codec != "autoincrement" else []
    lines.append(Line("fields", fields))
    parts = [Part(header="roles", remarks=["Roles"], lines=lines), *_draft_permissions(evidence, table)]
    return RoleDraft(
        columns=[column], lines=[Line("role", role, source), *admin], parts=parts, decisions=decisions
    )


def _draft_permissions(evidence: Evidence, roles: TableEvidence) -> list[Part]:
    """Return the section about permissions that a table links to roles."""
    for link in evidence.base_tables():
        targets = {reference.table: reference for reference in link.references if len(reference.columns) == 1}
        for name, reference in targets.items():
            permissions = evidence.tables.get(name)
            is_permissions = permissions and names.PERMISSIONS_TABLE.search(names.normalize(name))
            label = _find_label(permissions) if permissions and is_permissions else ""
            if label and roles.name in targets and permissions:
                role_column = targets[roles.name].columns[0]
                pair = {"table": link.name, "role": role_column, "permission": reference.columns[0]}
                lines = [
                    Line("table", name, f"{link.name} links it to {roles.name}"),
                    Line("key", reference.to[0] if reference.to else permissions.key),
                    Line("name", label),
                    Line("link", pair, "foreign keys"),
                ]
                return [Part(header=write_header("roles", "permissions"), lines=lines)]
    return []


# Roles in a column ------------------------------------------------------------------------------------------------


def _list_labels(users: TableEvidence, column: str) -> list[str]:
    """Return the names of roles in a text column; empty if its values are too many or no names."""
    stored = users.values(column)
    labels = sorted({str(value) for value in stored})
    is_names = all(isinstance(value, str) and 0 < len(value) <= LONGEST_ROLE for value in stored)
    return (
        labels if is_names and 0 < len(labels) <= MOST_ROLES and values.is_text(users.columns[column]) else []
    )


def _describe_labels(users: TableEvidence, column: str, labels: list[str]) -> RoleDraft:
    stored = Counter(str(value) for value in users.values(column))
    admin, decisions = _choose_admin(labels)
    others = [
        label for label in stored if not any(line.value == label for line in admin if isinstance(line, Line))
    ]
    default = max(others or labels, key=lambda label: stored[label])
    role: dict[str, Value] = {"column": column, "values": labels, "default": default}
    counts = (
        ", ".join(f"{count} {label}" for label, count in stored.most_common(5)) or "the labels of the type"
    )
    decisions = (
        [*decisions, f"the roles are those of {len(users.rows)} sampled users: add the others"]
        if (not users.columns[column].labels)
        else decisions
    )
    return RoleDraft(columns=[column], lines=[Line("role", role, counts), *admin], decisions=decisions)


def _describe_flag(users: TableEvidence, flags: list[str]) -> RoleDraft:
    column = flags[0]
    stored = users.values(column)
    role: dict[str, Value] = {"column": column, "values": ["true", "false"], "default": "false"}
    lines: list[Line | str] = [
        Line("role", role, f"{sum(map(bool, stored))} of {len(stored)} are true"),
        Line("admin", "true"),
    ]
    decisions = []
    if len(flags) > 1:
        lines.append(f"Further columns of roles: {', '.join(flags[1:])}")
        decisions.append(f"several columns are roles: {', '.join(flags)}")
    return RoleDraft(columns=[column], lines=lines, decisions=decisions)


def _choose_admin(labels: Sequence[str]) -> tuple[list[Line | str], list[str]]:
    """Return the line that names the role of admins, and the decision if no role has a usual name."""
    known = [label for label in labels if label.lower() in names.ADMIN_ROLES]
    if len(known) == 1:
        return [Line("admin", known[0], "the name of the role")], []
    shown = [label for label in known or labels if len(label) <= LONGEST_ROLE][:MOST_ROLES]
    lines: list[Line | str] = [Line("admin", label, "a candidate", is_candidate=True) for label in shown]
    return lines, [f"the role that at least one active user must have: {', '.join(shown)}"] if shown else []


def _find_join_tables(evidence: Evidence, users: TableEvidence) -> list[str]:
    """Return the tables that link users to roles or groups."""
    joins = []
    for table in evidence.base_tables():
        words = names.list_words(table.name)
        is_link = ("role" in words or "group" in words) and len(table.columns) <= 6  # noqa: PLR2004 - two keys, a key of its own, and times
        refers = any(reference.table == users.name for reference in table.references) or names.match_columns(
            table, names.USER_REFERENCE
        )
        if is_link and refers and table.name != users.name:
            joins.append(table.name)
    return joins
