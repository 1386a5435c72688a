"""Draft the roles of users: a column of names, a reference to a table of roles, a boolean column."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Draft, Entry, Line, Part, Value, write_header
from dbctl.model import Struct, format_count
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.references import find_user_references

#: The most different values of a column of roles.
MOST_ROLES, LONGEST_ROLE = 12, 40
#: The most columns of a table of pairs: two keys, a key of its own, and times.
MOST_PAIR_COLUMNS = 6
#: The names that a draft gives to the roles of boolean columns.
ADMIN, USER = "admin", "user"


def draft_role(evidence: Evidence, users: TableEvidence, kinds: Collection[str]) -> Draft:
    """Return the lines about the roles of users, in the first form that the database shows; ``kinds`` are no columns of roles."""
    return (
        (_draft_flags(evidence, users) if _has_admin_flag(users) else None)
        or _draft_column(evidence, users, kinds)
        or _draft_flags(evidence, users)
        or _draft_members(evidence, users)
        or _draft_metadata(evidence)
        or _list_candidates(users)
    )


def _has_admin_flag(users: TableEvidence) -> bool:
    """Return whether a boolean column of users is named after admins, and some of the users are admins."""
    return any(_is_clear_flag(users, column) for column in users.columns)


def _is_clear_flag(users: TableEvidence, column: str) -> bool:
    stored = users.values(column)
    is_named = column in references.match_columns(users, usual_names.CLEAR_ADMIN_FLAG)
    return is_named and subjects.is_boolean(users.columns[column], stored) and any(stored)


def _is_super(column: str) -> bool:
    return "super" in references.normalize(column)


def _list_candidates(users: TableEvidence) -> Draft:
    """Return the columns that may show who is an admin, with their counts; no command removes a user until one is chosen."""
    lines, shown = list[Line | str](), list[str]()
    for column in references.match_columns(users, references.ADMIN_CANDIDATE):
        stored = users.values(column)
        if subjects.is_boolean(users.columns[column], stored):
            role: Value = {"column": column, "labels": {"true": ADMIN, "false": USER}, "default": USER}
            counts = f"{sum(map(bool, stored))} of {len(stored)} are true"
            lines += [
                Line("role", role, counts, is_candidate=True),
                Line("admin", ADMIN, "with this role", is_candidate=True),
            ]
            shown.append(f"{column} ({counts})")
        elif subjects.is_whole(users.columns[column]) and not users.target(column):
            counts = ", ".join(
                f"{count} of {value}" for value, count in Counter(map(str, stored)).most_common(5)
            )
            lines.append(f"{column} has numbers, which may be bits: {counts or 'no values'}")
            shown.append(f"{column} (numbers: {counts or 'none'})")
    lines.append(Line("admin", False, "if the app has no admins among its users", is_candidate=True))  # noqa: FBT003 - the value itself
    where = f"; candidates: {', '.join(shown)}" if shown else ", and no column shows it"
    text = f"which users of {users.name} are admins{where}"
    return Draft(lines=lines, decisions=[Decision("admin", text)])


def _draft_column(evidence: Evidence, users: TableEvidence, kinds: Collection[str]) -> Draft | None:
    candidates = [
        column for column in references.match_columns(users, references.ROLE) if column not in kinds
    ]
    for column in candidates:
        target = users.target(column)
        table = evidence.tables.get(target[0]) if target else _find_roles_table(evidence, column)
        if table and (label := usual_names.find_name(table, usual_names.LABEL)):
            return _describe_table(evidence, users, column, table, target[1] if target else table.key, label)
    for column in candidates:
        if labels := list(users.columns[column].labels) or _list_labels(users, column):
            return _describe_labels(users, column, labels)
    return None


# A table of roles -------------------------------------------------------------------------------------------------


def _find_roles_table(evidence: Evidence, column: str) -> TableEvidence | None:
    """Return the table that a column without a foreign key refers to by its name."""
    if references.normalize(column) not in ("role_id", "roleid", "role_uuid"):
        return None
    tables = usual_names.match_tables(evidence, usual_names.ROLES_TABLE)
    return tables[0] if len(tables) == 1 else None


def _describe_table(
    evidence: Evidence, users: TableEvidence, column: str, table: TableEvidence, key: str, label: str
) -> Draft:
    stored = [str(value) for value in table.values(label)]
    source = "foreign key" if users.target(column) else "names of the columns"
    role = {"column": column, "table": table.name, "key": key, "name": label}
    admin, decisions = _choose_admin(stored, is_fixed=label == key)
    parts = [_describe_roles_table(table, key, label), *_draft_permissions(evidence, table)]
    return Draft(
        columns=[column], lines=[Line("role", role, source), *admin], parts=parts, decisions=decisions
    )


def _describe_roles_table(table: TableEvidence, key: str, label: str) -> Part:
    codec, codec_evidence = subjects.guess_key_codec(table.columns[key], table.values(key))
    fields = {"name": label} | {
        field: columns[0]
        for field in ("description", "priority", "created_at", "updated_at")
        if (columns := usual_names.find_names(table, usual_names.FIELDS.get(field, [field])))
    }
    lines = [Line("table", table.name, format_count(len(table.rows), "role")), Line("key", key)]
    lines += [Line("codec", codec, codec_evidence)] if codec != "autoincrement" else []
    return Part(header="roles", remarks=["Roles"], lines=[*lines, Line("fields", fields)])


def _draft_permissions(evidence: Evidence, roles: TableEvidence) -> list[Part]:
    """Return the section about permissions that a table links to roles."""
    for link in evidence.base_tables():
        targets = {reference.table: reference for reference in link.references if len(reference.columns) == 1}
        for name, reference in targets.items():
            permissions = evidence.tables.get(name)
            is_permissions = permissions and usual_names.PERMISSIONS_TABLE.search(references.normalize(name))
            label = (
                usual_names.find_name(permissions, usual_names.LABEL)
                if permissions and is_permissions
                else ""
            )
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
        labels
        if is_names and 0 < len(labels) <= MOST_ROLES and subjects.is_text(users.columns[column])
        else []
    )


def _describe_labels(users: TableEvidence, column: str, labels: list[str]) -> Draft:
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
    if not users.columns[column].labels:
        decisions = [*decisions, _leave_open(format_count(len(users.rows), "sampled user"))]
    return Draft(columns=[column], lines=[Line("role", role, counts), *admin], decisions=decisions)


def _draft_flags(evidence: Evidence, users: TableEvidence) -> Draft | None:
    """Return the roles in boolean columns: labels of one column, or ranks of several, with the groups of users."""
    flags = [
        column
        for column in references.match_columns(users, references.ADMIN_FLAG)
        if subjects.is_boolean(users.columns[column], users.values(column))
    ]
    flags.sort(key=lambda column: (not _is_super(column), not _is_clear_flag(users, column)))
    if not flags or not (_is_clear_flag(users, flags[0]) or (len(flags) > 1 and _is_super(flags[0]))):
        return None
    admin = Line("admin", ADMIN)
    counts = ", ".join(
        f"{sum(map(bool, users.values(column)))} of {len(users.values(column))} {column}" for column in flags
    )
    if len(flags) == 1:
        role: dict[str, Value] = {
            "column": flags[0],
            "labels": {"true": ADMIN, "false": USER},
            "default": USER,
        }
        return Draft(columns=flags, lines=[Line("role", role, f"true: {counts}"), admin])
    # The first column alone makes an admin; the rank of each further column has all columns before it cleared.
    ranks = [
        Entry({"name": ADMIN, "columns": dict.fromkeys(flags, True), "match": [flags[0]]}, "all columns"),
        *(
            Entry(
                {
                    "name": references.normalize(column).removeprefix("is_"),
                    "columns": {flag: flag == column for flag in flags},
                }
            )
            for column in flags[1:]
        ),
        Entry({"name": USER, "columns": dict.fromkeys(flags, False)}),
    ]
    parts = [
        Part(header="users.role", lines=[Line("default", USER), Line("ranks", ranks, f"true: {counts}")])
    ]
    members = _draft_members(evidence, users)
    if members:
        parts += [part for part in members.parts if part.header != "users.role"]
    return Draft(
        columns=flags,
        tables=members.tables if members else (),
        lines=[admin],
        parts=parts,
        decisions=[Decision("other", f"roles of several columns: {', '.join(flags)}")],
    )


# Roles in other tables --------------------------------------------------------------------------------------------


def _draft_members(evidence: Evidence, users: TableEvidence) -> Draft | None:
    """Return the roles in a table of pairs: of the users and of a table of roles, or with the name of the role.

    An app may have roles and groups, each with such a table: one with rows precedes an empty one, and roles precede groups.
    """
    pairs = []
    for link in evidence.base_tables():
        words = set(references.list_words(link.name))
        if not {"role", "group"} & words or len(link.columns) > MOST_PAIR_COLUMNS or link.name == users.name:
            continue
        if pair := find_pair(evidence, users, link):
            pairs.append((not link.rows, "role" not in words, pair))
    if not pairs:
        return None
    *_, pair = min(pairs, key=lambda entry: entry[:2])
    return _draft_pair(evidence, pair)


class Pair(Struct, frozen=True, kw_only=True):
    """A table of pairs of a user and a role."""

    link: TableEvidence
    user: str
    role: str
    table: TableEvidence | None  #: of roles; None: the pair has the name of the role

    @property
    def key(self) -> str:
        """The column of the table of roles to whose values a pair refers."""
        target = self.link.target(self.role)
        return target[1] if target else self.table.key if self.table else ""

    @property
    def label(self) -> str:
        """The column with the names of the roles."""
        return usual_names.find_name(self.table, usual_names.LABEL) if self.table else ""


def find_pair(evidence: Evidence, users: TableEvidence, link: TableEvidence) -> Pair | None:
    """Return how a table gives roles to users; None: it does not."""
    for reference in find_user_references(evidence, users, users.key):
        if reference.table == link.name:
            role = _find_role_of_pair(evidence, users, link, reference.column)
            return Pair(link=link, user=reference.column, role=role[0], table=role[1]) if role else None
    return None


def _find_role_of_pair(
    evidence: Evidence, users: TableEvidence, link: TableEvidence, user: str
) -> tuple[str, TableEvidence | None] | None:
    """Return the column with the role, and the table of roles to whose rows it refers; None: the column has the name."""
    others = [column for column in link.columns if column != user]
    for column in others:
        target = link.target(column)
        table = evidence.tables.get(target[0]) if target else None
        if table and table is not users and usual_names.ROLES_TABLE.search(references.normalize(table.name)):
            return (column, table) if usual_names.find_name(table, usual_names.LABEL) else None
    if any(reference.table != users.name for reference in link.references):
        return None
    for column in others:
        if not usual_names.ROLE_OF_PAIR.search(references.shorten(link, column)):
            continue
        tables = [
            table
            for table in usual_names.match_tables(evidence, usual_names.ROLES_TABLE)
            if _contains(table, link.values(column))
        ]
        if tables and usual_names.find_name(tables[0], usual_names.LABEL):
            return column, tables[0]
        stored = link.values(column)
        if subjects.is_text(link.columns[column]) or (
            stored and all(isinstance(value, str) for value in stored)
        ):
            return column, None
    return None


def _contains(table: TableEvidence, stored: Sequence[object]) -> bool:
    """Return whether all values are keys of a table."""
    known = set(map(str, table.values(table.key))) if table.key else set[str]()
    return bool(stored) and {str(value) for value in stored} <= known


def describe_pair(pair: Pair) -> list[Line]:
    """Return the lines about a table of pairs."""
    link = pair.link
    lines = [
        Line("table", link.name, "the name of the table"),
        Line("user", pair.user),
        Line("role", pair.role),
    ]
    if link.key and link.columns[link.key].required and link.key not in (pair.user, pair.role):
        codec, evidence = subjects.guess_key_codec(link.columns[link.key], link.values(link.key))
        lines.append(
            Line("id", {"column": link.key, "codec": codec}, evidence, is_candidate=codec == "given")
        )
    if pair.table:
        roles = {"table": pair.table.name, "key": pair.key, "name": pair.label}
        lines.append(Line("roles", roles, format_count(len(pair.table.rows), "role")))
    return lines


def _draft_pair(evidence: Evidence, pair: Pair) -> Draft:
    link, table = pair.link, pair.table
    parts = [Part(header="users.role.members", lines=describe_pair(pair))]
    if table:
        stored = [str(value) for value in table.values(pair.label)]
        admin, decisions = _choose_admin(stored, is_fixed=pair.label == pair.key)
        parts += [_describe_roles_table(table, pair.key, pair.label), *_draft_permissions(evidence, table)]
    else:
        stored = sorted({str(value) for value in link.values(pair.role)})
        admin, decisions = _choose_admin(stored)
        values = Line("values", stored, "stored values; add the others")
        parts.insert(0, Part(header="users.role", lines=[values]))
        decisions = [*decisions, _leave_open(f"{format_count(len(link.rows), 'sampled row')} of {link.name}")]
    return Draft(tables=[link.name], lines=admin, parts=parts, decisions=decisions)


def _draft_metadata(evidence: Evidence) -> Draft | None:
    """Return the roles in a row of metadata, in PHP's serialization."""
    for table in evidence.base_tables():
        if "meta" not in references.normalize(table.name):
            continue
        keys = usual_names.find_names(table, ["meta_key", "key"])
        stored = usual_names.find_names(table, ["meta_value", "value"])
        user = next(iter(references.match_columns(table, references.USER_REFERENCE)), "")
        rows = [
            row for row in table.rows if keys and stored and str(row.get(keys[0])).endswith("capabilities")
        ]
        labels = sorted(
            {label for row in rows for label in re.findall(r's:\d+:"([\w-]+)";b:1', str(row.get(stored[0])))}
        )
        if not (user and labels):
            continue
        metadata: dict[str, Value] = {
            "table": table.name,
            "user": user,
            "key": keys[0],
            "value": stored[0],
            "name": str(rows[0][keys[0]]),
        }
        admin, decisions = _choose_admin(labels)
        lines = [
            Line("metadata", metadata),
            Line("values", labels, f"stored in {format_count(len(rows), 'row')}"),
        ]
        return Draft(
            tables=[table.name],
            lines=admin,
            parts=[Part(header="users.role", lines=lines)],
            decisions=[*decisions, _leave_open(f"{format_count(len(rows), 'sampled row')} of {table.name}")],
        )
    return None


def _leave_open(sample: str) -> Decision:
    """Return the decision about the roles that a sample does not have."""
    return Decision("other", f"the roles are those of {sample}: add the others")


def _choose_admin(labels: Sequence[str], *, is_fixed: bool = True) -> tuple[list[Line | str], list[Decision]]:
    """Return the line that names the role of admins, and the decision if no role has a usual name, or admins may change it.

    ``is_fixed`` is whether the rows of users have the name itself, so that the app compares it.
    """
    known = [label for label in labels if usual_names.is_admin_role(label)]
    if len(known) == 1 and is_fixed:
        return [Line("admin", known[0], "the name of the role")], []
    shown = [label for label in known or labels if len(label) <= LONGEST_ROLE][:MOST_ROLES]
    lines: list[Line | str] = [Line("admin", label, "a candidate", is_candidate=True) for label in shown]
    lines.append(Line("admin", False, "if the app has no admins among its users", is_candidate=True))  # noqa: FBT003 - the value itself
    text = f"the role that at least one active user must have: {', '.join(shown) or 'none is stored'}"
    return lines, [Decision("admin", text)]
