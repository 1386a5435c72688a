"""What changes when a user gets another role: columns of the user, or rows of a table of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbctl.engines.contract.database import Condition
from dbctl.extensions.drafts import roles, usual_names
from dbctl.extensions.drafts.document import Value, read_lines, write_section, write_stored
from dbctl.extensions.drafts.learning.explain import WRITABLE, Explainer
from dbctl.extensions.drafts.learning.rules.states import UserChange
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.extensions.drafts.roles import ADMIN, USER
from dbctl.model import Row
from dbctl.profiles.model.core import Topic
from dbctl.profiles.model.roles import UserRole
from dbctl.services.app.evidence import subjects


def learn_role(scene: Scene) -> Lesson:
    """Return the keys about the role of a user.

    Raises:
        DemonstrationWrongError: neither the row of the user nor a row with roles changed, or the user got another role.
    """
    change = UserChange(scene)
    role, name, tables = _learn_pairs(scene, change) or _learn_columns(scene, change)
    evidence = scene.evidence_count
    keys = [LearnedKey(path=("users", "role"), value=role, evidence=evidence)] if role else []
    decided = list[Topic]()
    if name and usual_names.is_admin_role(name) and not scene.users.admin:
        keys.append(LearnedKey(path=("users", "admin"), value=name, evidence=evidence))
        decided.append("admin")
    change.explain_others(tables)
    return change.create_lesson(keys, decided)


# Pairs ----------------------------------------------------------------------------------------------------------------


def _learn_pairs(scene: Scene, change: UserChange) -> tuple[dict[str, Value], str, Sequence[str]] | None:
    """Return the section about a table of pairs whose rows of the user changed, and the role that the user got."""
    members = scene.users.role.members if scene.users.role else None
    section = write_section(scene.users.role or UserRole())
    for name in dict.fromkeys(row.table for row in change.rows):
        table = change.evidence.tables[name]
        pair = roles.find_pair(change.evidence, change.table, table)
        if members and members.table == name:  # also without foreign keys
            own = change.evidence.tables[members.roles.table] if members.roles else None
            pair = roles.Pair(link=table, user=members.user, role=members.role, table=own)
        elif pair is None or pair.table is None:  # a name that is no row may be anything
            continue
        rows = [row for row in change.rows if row.table == name and _is_pair(row, pair, change)]
        if not rows:
            continue
        added = [row.after[pair.role] for row in rows if row.after is not None]
        role = str(added[0]) if added else ""
        if added and pair.table:
            role = _read_name(scene, (pair.table.name, pair.key), pair.label, added[0])
        if role:
            _require_role(scene, role)
        new = _learn_further(change, pair, rows)
        explained = [name, f"{name}.{pair.role}"]
        if members and members.table == name:
            if not new or dict(members.new) == new:
                return {}, role, explained
            return {**section, "members": {**write_section(members), "new": new}}, role, explained
        entry = read_lines(roles.describe_pair(pair))
        return (
            {**_keep_columns(section), "members": {**entry, **({"new": new} if new else {})}},
            role,
            explained,
        )
    return None


def _learn_further(change: UserChange, pair: roles.Pair, rows: Sequence[ChangedRow]) -> dict[str, Value]:
    """Return the further columns of a new pair, as ``users create`` writes them; other values belong to no rule."""
    explainer, new = Explainer(change.scene, change.user), dict[str, Value]()
    for row in rows:
        added = row._replace(before=None, after=change.read_values(row, after=True))
        for column, explanation in explainer.explain_row(
            added, covered=(pair.user, pair.role, pair.link.key)
        ):
            place = f"{row.table}.{column}"
            if explanation.kind in (*WRITABLE, "counter") and explanation.value is not None:
                new[column] = explanation.value
            elif pair.link.columns[column].required and explanation.kind != "actor":
                change.leave_open("other", f"the value of {place} in a new row is not explained")
            else:
                change.unrelated[place] = explanation.reason
    return new


def _is_pair(row: ChangedRow, pair: roles.Pair, change: UserChange) -> bool:
    """Return whether a row is a pair of the user that was added or deleted, or got another role.

    A changed row may be a new pair with the key of a deleted one, which SQLite assigns again.
    """
    if row.before is None or row.after is None:
        values = row.after or row.before or {}
    elif pair.role in row.after and row.key:
        values = change.read_values(row, after=True) or {}
    else:
        return False
    return str(values.get(pair.user)) == str(change.key)


def _read_name(scene: Scene, target: tuple[str, str], label: str, key: object) -> str:
    db = scene.after[scene.users_database]
    return next(
        (str(name) for (name,) in db.select(target[0], [label], [Condition(target[1], "=", key)])), ""
    )


def _require_role(scene: Scene, name: str) -> None:
    if scene.subject.role and scene.subject.role.casefold() != name.casefold():
        raise scene.create_error(f"the user got the role {name!r}", "Pass it: --role ROLE.")


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


# Columns --------------------------------------------------------------------------------------------------------------


def _learn_columns(scene: Scene, change: UserChange) -> tuple[dict[str, Value], str, Sequence[str]]:
    """Return the section about the columns of the user that changed, and the role that the user got."""
    columns = change.columns
    if not columns:
        raise scene.create_error(f"neither the row of {scene.subject.login!r} nor one with a role changed")
    before, after = change.own.before or {}, change.own.after or {}
    section = write_section(scene.users.role or UserRole())
    if len(columns) > 1 or section.get("ranks"):
        return _learn_ranks(scene, section, {name: (before[name], after[name]) for name in columns})
    column = columns[0]
    target = change.table.target(column)
    if target and target[0] in change.evidence.tables:
        label = usual_names.find_name(change.evidence.tables[target[0]], usual_names.LABEL)
        name = _read_name(scene, target, label, after[column]) if label else ""
        _require_role(scene, name)
        return {"column": column, "table": target[0], "key": target[1], "name": label}, name, ()
    return _learn_labels(scene, change, section, column)


def _learn_labels(
    scene: Scene, change: UserChange, section: Mapping[str, Value], column: str
) -> tuple[dict[str, Value], str, Sequence[str]]:
    """Return the section about one column with a value for each role."""
    before, after = (change.own.before or {})[column], (change.own.after or {})[column]
    definition = change.table.columns[column]
    if isinstance(after, str) and definition.native != "boolean":
        _require_role(scene, after)
        values = scene.users.role.values if scene.users.role else ()
        if section.get("column") != column:
            return {"column": column}, after, ()
        return ({**section, "values": [*values, after]} if values and after not in values else {}), after, ()
    is_flag = subjects.is_boolean(definition, [before, after])
    if isinstance(before, int) and isinstance(after, int) and before & after:
        return _learn_bits(scene, change, section, column, (before, after))
    former = section.get("labels") if section.get("column") == column else {}
    labels = dict(former) if isinstance(former, Mapping) else {}
    texts = [  # a profile may write a flag as the number that the app stores
        str(bool(value)).lower() if is_flag and str(value) not in labels else str(value)
        for value in (before, after)
    ]
    opposite = USER if usual_names.is_admin_role(scene.subject.role or ADMIN) else ADMIN
    name = scene.subject.role or str(labels.get(texts[1], "")) or (ADMIN if is_flag and after else USER)
    labels |= {texts[1]: name}
    labels.setdefault(texts[0], opposite)
    role: dict[str, Value] = {"column": column, "labels": labels}
    if default := section.get("default"):
        role["default"] = default if default in labels.values() else labels.get("false", name)
    return ({} if labels == former else role), name, ()


def _learn_bits(
    scene: Scene, change: UserChange, section: Mapping[str, Value], column: str, states: tuple[int, int]
) -> tuple[dict[str, Value], str, Sequence[str]]:
    """Return the section about a number of whose bits some changed."""
    before, after = states
    added, removed = after & ~before, before & ~after
    if added and removed:
        change.leave_open(
            "other", f"{change.table.name}.{column} has bits, of which some were set and others cleared"
        )
        return {}, "", ()
    name = scene.subject.role or (ADMIN if added else USER)
    opposite = USER if usual_names.is_admin_role(name) else ADMIN
    bits = {name: added, opposite: removed}
    former = section.get("bits") if section.get("column") == column else None
    if former:
        if not isinstance(former, Mapping) or former != bits:
            change.leave_open(
                "other", f"the bits of roles in {change.table.name}.{column} differ from the profile"
            )
        return {}, name, ()
    ordered = dict(sorted(bits.items(), key=lambda item: -item[1]))
    return (
        {"column": column, "bits": ordered, "default": next(key for key, value in bits.items() if not value)},
        name,
        (),
    )


def _learn_ranks(
    scene: Scene, section: Mapping[str, Value], columns: Mapping[str, tuple[object, object]]
) -> tuple[dict[str, Value], str, Sequence[str]]:
    """Return the section about several columns that store a role together."""
    ranks = scene.users.role.ranks if scene.users.role else ()
    own: list[Row] = [dict(zip(columns, state, strict=True)) for state in zip(*columns.values(), strict=True)]
    former, current = (_find_rank(scene, state) for state in own)
    if ranks and former and current:
        _require_role(scene, current)
        return {}, current, ()
    name = scene.subject.role or ADMIN
    opposite = USER if usual_names.is_admin_role(name) else ADMIN
    entries: list[dict[str, Value]] = [
        {"name": label, "columns": {column: _read_boolean(value) for column, value in state.items()}}
        for label, state in ((name, own[1]), (opposite, own[0]))
    ]
    entries.sort(key=lambda entry: not usual_names.is_admin_role(str(entry["name"])))
    rest = {key: value for key, value in section.items() if key in ("members", "permissions")}
    return {"ranks": entries, "default": USER if USER in (name, opposite) else name, **rest}, name, ()


def _find_rank(scene: Scene, values: Row) -> str:
    """Return the name of the first rank that has these values; empty: there is none."""
    for rank in scene.users.role.ranks if scene.users.role else ():
        names = rank.match or [*rank.columns]
        if all(name in values and rank.columns[name] == _read_boolean(values[name]) for name in names):
            return rank.name
    return ""


def _read_boolean(value: object) -> Value:
    """Return a stored value in the language of profiles, in which columns of roles are often booleans."""
    return bool(value) if value in (0, 1) else write_stored(value)
