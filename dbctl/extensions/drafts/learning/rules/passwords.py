"""What a new password changes: the hash, in a format that verifies it, further columns of the user, and ended sign-ins."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.rules.ended_tokens import EndedTokens
from dbctl.extensions.drafts.learning.rules.password_hashes import (
    LearnedHash,
    describe_attempts,
    find_hash,
    is_password_hash,
    list_peppers,
)
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Row, Secret, Struct, format_count
from dbctl.profiles.codecs import read_text
from dbctl.profiles.model.base import list_names
from dbctl.profiles.passwords import find_prefix_problem, has_byte_limit, match_prefix, read_prefix
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence, add_samples
from dbctl.services.users.sign_in_state import NEXT

#: Columns whose new value ends sign-ins: stamps, and versions of tokens.
_STAMP = re.compile(r"stamp|uniquifier|session|token|jwt|epoch|auth_version")
_ACTOR = re.compile(r"(^|_)by(_|$)|^(creator|editor|author)(_id)?$")
#: The most values of a column that has the kind of a row.
MOST_KINDS = 5
#: Constants that need no second demonstration.
_NEUTRAL = (0, 1, "")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]{16,}")
#: Characters of the shortest hash.
SHORTEST_HASH = 13


class _Rows(Struct, frozen=True, kw_only=True):
    """The changed rows, by what they have to do with the user."""

    own: ChangedRow | None
    others: Sequence[ChangedRow]  #: of other users
    ended: Mapping[str, Sequence[ChangedRow]]  #: by table, deleted rows with the key of the user
    rest: Sequence[ChangedRow]


def learn_password(scene: Scene) -> Lesson:
    """Return the section about passwords, whose format verifies the password that was entered.

    Raises:
        DemonstrationWrongError: no password of the user changed, or those of several users did.
    """
    key = scene.find_user()[scene.users.id.column]
    if scene.password is None:
        raise scene.create_error(
            "the password is unknown", "Pass the password that was entered: --password-stdin."
        )
    rows = _group_rows(scene, key)
    user = scene.find_user(after=True)
    changed = [name for name, value in (rows.own.after or {}).items() if value] if rows.own else []
    learned = find_hash(scene, user, changed, scene.password)
    if learned is None:
        return _leave_open(scene, rows, user, changed)
    if any(learned.column in (row.after or {}) for row in rows.others):
        raise scene.create_error(
            "the passwords of several users changed", "Set the password of one user, and learn again."
        )
    explained = _explain_columns(scene, rows, learned)
    return _create_lesson(scene, rows, learned, explained)


def learn_first_password(scene: Scene, user: Row) -> Lesson:
    """Return the section about passwords that the entered password of a new user shows; nothing if no format verifies it."""
    if scene.password is None:
        return Lesson()
    columns = [
        name for name, value in user.items() if isinstance(value, str | bytes) and len(value) >= SHORTEST_HASH
    ]
    learned = find_hash(scene, user, columns, scene.password)
    if learned is None:
        return Lesson()
    section, problem = _describe_section(scene, learned)
    if scene.users.password and scene.users.password.also:
        section["also"] = dict(scene.users.password.also)
    return Lesson(
        keys=[LearnedKey(path=("users", "password"), value=section, evidence=scene.evidence_count)],
        decided=["passwords"],
        decisions=[Decision("passwords", problem)] if problem else [],
        notes=learned.notes,
    )


def _group_rows(scene: Scene, key: object) -> _Rows:
    users = scene.users
    own, others, rest = None, list[ChangedRow](), list[ChangedRow]()
    ended = dict[str, list[ChangedRow]]()
    for row in scene.list_rows():
        is_user = (row.database, row.table) == (scene.users_database, users.table)
        if is_user and row.key.get(users.id.column) == key and row.before and row.after:
            own = row
        elif is_user:
            others.append(row)
        elif row.after is None and _find_user_column(scene, row, key):
            ended.setdefault(row.table, []).append(row)
        else:
            rest.append(row)
    return _Rows(own=own, others=others, ended=ended, rest=rest)


def _find_user_column(scene: Scene, row: ChangedRow, key: object) -> str:
    """Return the column of a row with the key of the user, by a foreign key or its name; empty: none."""
    table = scene.evidence[row.database].tables[row.table]
    for name, value in (row.before or row.after or {}).items():
        target = table.target(name)
        is_named = target is None and references.USER_REFERENCE.search(references.normalize(name))
        is_reference = target == (scene.users.table, scene.users.id.column)
        if value is not None and str(value) == str(key) and (is_reference or is_named):
            return name
    return ""


def _leave_open(scene: Scene, rows: _Rows, user: Row, changed: Sequence[str]) -> Lesson:
    """Return the open decision about a hash that no format verifies.

    Raises:
        DemonstrationWrongError: no value of the user changed that could be a hash, nor does another row have one.
    """
    assert scene.password is not None  # noqa: S101 - checked before
    for row in rows.rest:
        for name, value in (row.after or {}).items():
            texts = (Secret(scene.password.reveal() + pepper.reveal()) for pepper in list_peppers(scene))
            if isinstance(value, str) and any(is_password_hash(text, value) for text in texts):
                text = f"{row.table}.{name} has the hash of the password, a table that users.password cannot name"
                return Lesson(decisions=[Decision("passwords", text)])
    hashes = [name for name in changed if len(read_text(user[name])) >= SHORTEST_HASH]
    if not hashes:
        raise scene.create_error(f"no value of {scene.subject.login!r} changed that could be a password")
    text = f"no known format verifies the new password in {', '.join(hashes)}; tried: {describe_attempts(scene, user, hashes)}"
    return Lesson(decisions=[Decision("passwords", text)])


# Columns of the user ---------------------------------------------------------------------------------------------------


class _Explained(Struct, frozen=True, kw_only=True):
    """The changed columns besides the hash."""

    also: Mapping[str, Value]
    on_sign_out: Mapping[str, Value]
    unrelated: Mapping[str, str]
    decisions: Sequence[Decision]


def _explain_columns(scene: Scene, rows: _Rows, learned: LearnedHash) -> _Explained:
    users, evidence = scene.users, scene.evidence[scene.users_database]
    table = add_samples(
        scene.before[scene.users_database],
        evidence,
        {users.table: [*evidence.tables[users.table].columns]},
    ).tables[users.table]
    updated = list_names(users.fields.get("updated_at"))
    completed = {*learned.columns, *(name.removesuffix("?") for name in updated)}
    also = dict[str, Value]()
    renewed = dict[str, Value]()
    unrelated = dict[str, str]()
    decisions = list[Decision]()
    before, after = (rows.own.before or {}, rows.own.after or {}) if rows.own else ({}, {})
    for name in after.keys() - completed - users.on_sign_out.keys():
        if _ACTOR.search(references.normalize(name)):
            unrelated[f"{users.table}.{name}"] = "the user who acted in the app"
            continue
        value = _explain_value(table, name, before.get(name), after[name], _list_earlier(scene, name))
        if value is None:
            decisions.append(
                Decision("passwords", f"the value of {users.table}.{name}, which changes with the password")
            )
        elif _STAMP.search(references.normalize(name)) and value != ":null":
            renewed[name] = value
        else:
            also[name] = value
    for row in rows.others:
        for name in {*(row.after or {})} - after.keys():
            unrelated[f"{users.table}.{name}"] = "it changed in rows of other users"
    return _Explained(also=also, on_sign_out=renewed, unrelated=unrelated, decisions=decisions)


def _list_earlier(scene: Scene, column: str) -> list[object]:
    """Return the new values of a column of the user in earlier demonstrations."""
    return [
        after[column]
        for recording in scene.earlier
        for change in recording.changes
        if change.table == scene.users.table
        for image in change.images or ()
        if column in (after := image.after or {})
    ]


def _explain_value(
    table: TableEvidence, column: str, before: object, after: object, earlier: Sequence[object]
) -> Value | None:
    """Return the value that a profile writes; None: nothing explains it."""
    definition, stored = table.columns[column], table.values(column)
    is_number = isinstance(after, int) and not isinstance(after, bool)
    if after is None or subjects.is_time(definition, [*stored, after]):
        return ":null" if after is None else ":now"
    if isinstance(after, bool | int) and subjects.is_boolean(definition, [*stored, after]):
        return bool(after)
    if is_number and isinstance(before, int) and after == before + 1:
        return NEXT
    if isinstance(after, str) and (_UUID.fullmatch(after) or _HEX.fullmatch(after)):
        return ":uuid4" if "-" in after else f":hex-{len(after)}"
    is_repeated = bool(earlier) and all(str(other) == str(after) for other in earlier)
    return after if isinstance(after, str | int | float) and (after in _NEUTRAL or is_repeated) else None


# The lesson --------------------------------------------------------------------------------------------------------


def _describe_section(scene: Scene, learned: LearnedHash) -> tuple[dict[str, Value], str]:
    """Return the section about passwords, and why dbctl cannot write the format."""
    prefix = read_prefix(learned.stored)
    problem = find_prefix_problem(prefix)
    if not problem and learned.hmac_key and has_byte_limit(prefix):
        problem = f"{learned.format} reads only the first bytes of an HMAC"
    section, earlier = learned.describe(), scene.users.password
    accepts = [form for form in earlier.accepts if form != learned.format] if earlier else []
    if problem:
        accepts = [learned.format, *accepts]
    else:
        section["writes"] = prefix
    if accepts:
        section["accepts"] = accepts
    if earlier and earlier.unusable and earlier.column == learned.column:
        section["unusable"] = list(earlier.unusable)
    return section, problem


def _create_lesson(scene: Scene, rows: _Rows, learned: LearnedHash, explained: _Explained) -> Lesson:
    section, problem = _describe_section(scene, learned)
    if explained.also:
        section["also"] = explained.also
    via = f" ({scene.interface})" if scene.interface else ""
    keys = [LearnedKey(path=("users", "password"), value=section, evidence=scene.evidence_count + via)]
    if explained.on_sign_out:
        value: Mapping[str, Value] = {**scene.users.on_sign_out, **explained.on_sign_out}
        keys.append(LearnedKey(path=("users", "on_sign_out"), value=value, evidence=scene.evidence_count))
    tokens = EndedTokens(scene)
    keys += tokens.create_keys(
        {str(section["table"]): section for section in _learn_sign_ins(scene, rows, tokens.open_tables)}
    )
    topics, left = tokens.decide([*tokens.sections, *tokens.retained])
    added_tables = {row.table for row in rows.rest if row.before is None}
    rest = {
        name: text
        for name, text in _describe_rest(scene, rows).items()
        if name not in tokens.sections or name in added_tables
    }
    unrelated = {**explained.unrelated, **rest, **tokens.unrelated}
    others = [Decision("passwords", text) for text in _list_open_rows(scene, rows, tokens.sections)]
    decisions = [*explained.decisions, *others, *([Decision("passwords", problem)] if problem else []), *left]
    retained = [
        f"the app retains the rows of {name} of the user with a new password" for name in tokens.retained
    ]
    return Lesson(
        keys=keys,
        decided=["passwords", *topics],
        decisions=decisions,
        notes=[*_contradict(scene, rows, explained), *learned.notes, *retained],
        unrelated=unrelated,
    )


def _learn_sign_ins(scene: Scene, rows: _Rows, open_tables: Sequence[str]) -> Iterator[Mapping[str, Value]]:
    """Yield the tables whose rows of the user were deleted, unless the profile has them, or leaves them open."""
    known = {*(section.table.removesuffix("?") for section in scene.users.signed_in), *open_tables}
    key = scene.find_user()[scene.users.id.column]
    for name, ended in rows.ended.items():
        if name in known or not usual_names.SESSIONS_TABLE.search(references.normalize(name)):
            continue
        table = scene.evidence[ended[0].database].tables[name]
        section: dict[str, Value] = {"table": name, "user": _find_user_column(scene, ended[0], key)}
        only = {
            column: value
            for column, value in (ended[0].before or {}).items()
            if isinstance(value, str)
            and all((row.before or {}).get(column) == value for row in ended)
            and 1 < len({read_text(other) for other in table.values(column)}) <= MOST_KINDS
            and column != section["user"]
        }
        if only:
            section["only"] = only
        yield section


def _contradict(scene: Scene, rows: _Rows, explained: _Explained) -> Iterator[str]:
    """Yield what the profile has and the demonstration does not show."""
    users = scene.users
    earlier = users.password.also if users.password else {}
    if missing := earlier.keys() - explained.also.keys():
        yield f"{', '.join(sorted(missing))} did not change in this demonstration, but in an earlier one"
    unchanged = users.on_sign_out.keys() - (rows.own.after or {} if rows.own else {}).keys()
    if unchanged:
        yield f"{', '.join(sorted(unchanged))} did not change, but users.on_sign_out changes it with the password"


def _describe_rest(scene: Scene, rows: _Rows) -> dict[str, str]:
    """Return why rows of other tables do not belong to the change, by table."""
    reasons = dict[str, str]()
    ended = rows.ended.keys() | {section.table.removesuffix("?") for section in scene.users.signed_in}
    for row in rows.rest:
        if row.table in ended and row.before is None:
            reasons[row.table] = "the app began a new session with the new password"
        elif _is_log(row):
            reasons[row.table] = "a log of the app"
        elif not _concerns_user(scene, row):
            reasons[row.table] = "the rows have no key of the user"
    return reasons


def _list_open_rows(scene: Scene, rows: _Rows, ended_tables: Collection[str]) -> Iterator[str]:
    """Yield what the app also changes, except the rows of tables whose sign-ins ended."""
    explained = {*_describe_rest(scene, rows), *ended_tables}
    for name in dict.fromkeys(row.table for row in rows.rest if row.table not in explained):
        count = sum(row.table == name for row in rows.rest)
        yield f"the app also changes {format_count(count, 'row')} of {name}"
    for name, ended in rows.ended.items():
        if name not in ended_tables and not usual_names.SESSIONS_TABLE.search(references.normalize(name)):
            yield f"the app also deletes {format_count(len(ended), 'row')} of {name}"


def _is_log(row: ChangedRow) -> bool:
    """Return whether a row was added to a log; one with a hash of the password, as in a history of passwords, belongs to the change."""
    has_hash = any(
        isinstance(value, str) and match_prefix(read_prefix(value)) for value in (row.after or {}).values()
    )
    is_event = usual_names.EVENT_TABLE.search(references.normalize(row.table)) is not None
    return row.before is None and is_event and not has_hash


def _concerns_user(scene: Scene, row: ChangedRow) -> bool:
    key = scene.find_user()[scene.users.id.column]
    return bool(_find_user_column(scene, row, key)) or key in row.key.values()
