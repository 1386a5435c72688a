"""Draft passwords, sign-ins, tokens and sessions, and the cleanup of expired rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Draft, Line, Part, Value, join_names, write_comment
from dbctl.model import Struct
from dbctl.profiles.codecs import HashFormat
from dbctl.profiles.passwords import JOINT, find_prefix_problem, identify_format, read_prefix
from dbctl.profiles.payloads import DECODERS, read_payload
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import Evidence, TableEvidence
from dbctl.services.app.evidence.references import find_user_references


class SignInDraft(Draft, frozen=True, kw_only=True):
    """The sections about tables whose rows end with a sign-in."""

    tokens: Sequence[str] = ()  #: columns (``table.column``) of tokens in tables that may contain sign-ins
    signed_in: Sequence[Part] = ()  #: sections of users


def draft_sign_ins(evidence: Evidence, users: TableEvidence) -> SignInDraft:
    """Return the sections about tables of sessions and tokens; a table whose rows may be others is a candidate."""
    columns = dict[str, list[str]]()
    for reference in find_user_references(evidence, users, users.key):
        columns.setdefault(reference.table, []).append(reference.column)
    signed_in, tables, parts, decisions = list[Part](), list[TableEvidence](), list[Part](), list[Decision]()
    candidates = list[TableEvidence]()
    for table in evidence.base_tables():
        kind = find_kind(table)
        if not kind or table.name == users.name:
            continue
        own_columns = dict.fromkeys(columns.get(table.name, []))
        sources = [Line("user", column) for column in own_columns]
        sources = sources or ([payload] if (payload := find_payload(table, users)) else [])
        doubt = _find_doubt(evidence, table, kind, sources)
        if doubt:
            text = f"whether rows of {table.name} are sign-ins, which a new password ends: {doubt}"
            decisions.append(Decision("sign-ins", text))
            candidates.append(table)
            signed_in += [draft_signed_in(table, user, is_candidate=True) for user in sources]
            continue
        tables.append(table)
        signed_in.append(draft_signed_in(table, sources[0]))
        parts += _draft_sessions(table, sources[0])
    parts += [part for table in evidence.base_tables() for part in _draft_cleanup(table)]
    return SignInDraft(
        tables=[table.name for table in tables],
        secrets=_list_tokens(tables),
        tokens=_list_tokens(candidates),
        signed_in=signed_in,
        parts=parts,
        decisions=decisions,
    )


def _list_tokens(tables: Sequence[TableEvidence]) -> list[str]:
    return [f"{table.name}.{token}" for table in tables if (token := _find_token(table))]


def _find_doubt(evidence: Evidence, table: TableEvidence, kind: str, users: Sequence[Line]) -> str:
    """Return why the rows of a table may be no sign-ins, or not be deleted; empty: the data show that they are sign-ins."""
    cascading = [
        other.name
        for other in evidence.base_tables()
        if other.name != table.name
        and any(item.table == table.name and item.on_delete == "CASCADE" for item in other.references)
    ]
    token, columns = _find_token(table), [str(user.value) for user in users if isinstance(user.value, str)]
    has_token = bool(token) and _is_random(table, token)
    is_temporary = bool(_find_time(table, usual_names.EXPIRES) or _find_time(table, usual_names.USED))
    doubts = (
        (bool(cascading), f"their deletion also deletes rows of {join_names(cascading)}"),
        (not users, "no column with the user was recognized"),
        (len(users) > 1, f"several columns refer to users: {join_names(columns)}"),
        (kind == "key", "they look like keys of programs"),
        (
            bool(usual_names.find_names(table, usual_names.KEY_COLUMNS)),
            "they have names or rights, as keys of programs have",
        ),
        (not table.rows, "the table has no rows" if not table.unread else table.unread),
        (not has_token and bool(columns), "no column has random tokens"),
        (not is_temporary, "no column has the time of their expiry or last use"),
    )
    return next((text for applies, text in doubts if applies), "")


def find_payload(table: TableEvidence, users: TableEvidence) -> Line | None:
    """Return the line that names the user of a sign-in by a path in the data of a column."""
    known = set(map(str, users.values(users.key)))
    for name in references.match_columns(table, usual_names.PAYLOAD):
        stored = table.values(name)
        for codec in DECODERS:
            for path in usual_names.PAYLOAD_USER:
                count = sum(read_payload(codec, path, value) in known for value in stored)
                if count:
                    payload = {"column": name, "codec": codec, "key": path}
                    return Line("payload", payload, f"the key of a user in {count} of {len(stored)} values")
    return None


def find_kind(table: TableEvidence) -> str:
    """Return ``session`` or ``key`` for a table of sign-ins, or of keys of programs."""
    name = references.normalize(table.name)
    if usual_names.KEYS_TABLE.search(name):
        return "key"
    return (
        "session"
        if usual_names.SESSIONS_TABLE.search(name) and not usual_names.NOT_SIGN_IN.search(name)
        else ""
    )


def _find_token(table: TableEvidence) -> str:
    columns = references.match_columns(table, usual_names.TOKEN)
    is_plain = {column: references.shorten(table, column) in ("id", "key") for column in columns}
    candidates = [column for column in columns if not is_plain[column] or _is_random(table, column)]
    return min(candidates, key=lambda column: is_plain[column], default="")


def _is_random(table: TableEvidence, column: str) -> bool:
    stored = table.values(column)
    return bool(stored) and all(isinstance(value, str | bytes) and len(value) >= 16 for value in stored)  # noqa: PLR2004 - shorter values can be guessed


def draft_signed_in(table: TableEvidence, user: Line, *, is_candidate: bool = False) -> Part:
    evidence = "tokens, with a time, of one user each" if not is_candidate else "the name of the table"
    lines = [Line("table", table.name, evidence), user]
    if expires := _find_time(table, usual_names.EXPIRES):
        lines.append(Line("expires_at", expires))
    if token := _find_token(table):
        lines.append(Line("token", token))
    ended = _find_time(table, ["revoked_at"])
    revoked, is_time = _find_revoked(table)
    if ended or revoked:
        on_end: Value = {ended: ":now"} if ended else {revoked: ":now" if is_time else True}
        lines.append(Line("on_end", on_end, "rows that remain after a sign-out"))
    remarks = [f"If a new password ends the rows of {table.name}:"] if is_candidate else []
    return Part(
        header="users.signed_in", is_array=True, lines=lines, remarks=remarks, is_candidate=is_candidate
    )


def _draft_sessions(table: TableEvidence, user: Line) -> Iterator[Part]:
    """Yield the section that lists the rows as sessions; without a column for the end, each row is open until it expires."""
    if not table.key:
        return
    lines = [
        Line("name", references.normalize(table.name).replace("_", "-")),
        Line("table", table.name),
        Line("key", table.key),
        user,
    ]
    times = {
        "started_at": usual_names.FIELDS["created_at"],
        "seen_at": usual_names.SEEN,
        "ended_at": usual_names.ENDED,
        "expires_at": usual_names.EXPIRES,
    }
    columns = {key: column for key, candidates in times.items() if (column := _find_time(table, candidates))}
    lines += [Line(key, column) for key, column in columns.items()]
    revoked, is_time = _find_revoked(table)
    if revoked and "ended_at" not in columns:
        lines.append(Line("ended_at", revoked) if is_time else Line("open", {revoked: False}))
    yield Part(header="sessions", is_array=True, lines=lines)


def _draft_cleanup(table: TableEvidence) -> Iterator[Part]:
    """Yield a rule for rows with a time of expiry; it runs only if ``--rule`` names it."""
    expires = _find_time(table, usual_names.EXPIRES)
    name = references.normalize(table.name)
    is_temporary = (
        usual_names.SESSIONS_TABLE.search(name) or usual_names.NOT_SIGN_IN.search(name) or "cache" in name
    )
    if not (expires and table.key and is_temporary):
        return
    yield Part(
        header="cleanup",
        is_array=True,
        remarks=[f"Expired rows of {table.name}: without on_demand_only, every cleanup deletes them"],
        lines=[
            Line("name", f"expired-{name.replace('_', '-')}"),
            Line("table", table.name),
            Line("key", table.key),
            Line("age", {"column": expires, "older_than": "1d"}, "the name of the column"),
            Line("delete", True),  # noqa: FBT003 - the value itself
            Line("on_demand_only", True),  # noqa: FBT003 - the value itself
        ],
    )


def _find_revoked(table: TableEvidence) -> tuple[str, bool]:
    """Return the column that shows which rows were revoked, and whether it stores the time; empty: there is none."""
    column = usual_names.find_name(table, usual_names.REVOKED)
    return column, bool(column) and subjects.is_time(table.columns[column], table.values(column))


def _find_time(table: TableEvidence, candidates: Sequence[str]) -> str:
    """Return the first of ``candidates`` that stores times, or numbers that are times of no sampled row."""
    for column in usual_names.find_names(table, candidates):
        stored = table.values(column)
        if subjects.is_time(table.columns[column], stored) or (
            not stored and subjects.is_whole(table.columns[column])
        ):
            return column
    return ""


#: Beginnings of values that apps store for accounts without a password, and the patterns for them.
UNUSABLE = {"!": "!*", "*": "[*]*", "x": "x", "": ""}


class StoredPasswords(Struct, frozen=True, kw_only=True):
    """The stored texts of passwords, from the first to the last user."""

    columns: Sequence[str]
    stored: Sequence[str]

    @property
    def formats(self) -> Counter[HashFormat]:
        """How many texts have each known format."""
        return Counter(name for text in self.stored if (name := identify_format(text)))


def draft_password(evidence: Evidence, table: TableEvidence) -> Draft:
    """Return the lines about the passwords in a table of users."""
    candidates = references.match_columns(table, usual_names.PASSWORD)
    samples = [read_passwords(table, [column]) for column in candidates]
    samples += [
        read_passwords(table, [salt, column])
        for column in candidates
        for salt in references.match_columns(table, usual_names.SALT)
        if all(subjects.is_text(table.columns[name]) for name in (salt, column))
    ]
    if not samples:
        return Draft()
    best = max(samples, key=lambda sample: sample.formats.total())
    return _describe(best, _find_pepper(evidence)) if best.formats else _describe_unknown(best)


def _find_pepper(evidence: Evidence) -> str:
    """Return the stored key of a secret that the app adds to passwords before it hashes them; empty: none is stored."""
    for table in evidence.base_tables():
        for column in usual_names.find_names(table, usual_names.SETTING_KEY):
            for value in table.values(column):
                if isinstance(value, str) and usual_names.PEPPER.search(references.normalize(value)):
                    return f"{value} in {table.name}"
    return ""


def read_passwords(table: TableEvidence, columns: Sequence[str]) -> StoredPasswords:
    """Return the texts in the columns that together are a password."""
    rows = [[row.get(column) for column in columns] for row in table.rows]
    stored = [JOINT.join(map(_text, values)) for values in rows if values[-1] is not None]
    return StoredPasswords(columns=columns, stored=stored)


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value or "")


def _describe(sample: StoredPasswords, pepper: str) -> Draft:
    formats, total, decisions = sample.formats, len(sample.stored), list[Decision]()
    newest = next(text for text in reversed(sample.stored) if identify_format(text))
    prefix = read_prefix(newest)
    problem = find_prefix_problem(prefix)
    written = identify_format(newest)
    password: dict[str, Value] = {"column": sample.columns[-1]}
    if len(sample.columns) > 1:
        password["prefix_columns"] = list(sample.columns[:-1])
    counts = ", ".join(f"{count} of {total} values are {name}" for name, count in formats.most_common())
    evidence = counts if len(formats) == 1 else f"{counts}; the newest is {written}"
    unknown = [text for text in sample.stored if identify_format(text) is None]
    unusable = sorted(
        {pattern for start, pattern in UNUSABLE.items() if any(_begins(text, start) for text in unknown)}
    )
    if unusable:
        password["unusable"] = unusable
        evidence += f"; {len(unknown)} are no hashes"
    unexplained = [
        text for text in unknown if text.strip(JOINT) and not any(_begins(text, start) for start in UNUSABLE)
    ]
    if problem:
        decisions.append(Decision("passwords", f"dbctl cannot write {written} hashes: {problem}"))
    elif pepper:
        text = f"the app may change passwords before it hashes them, with {write_comment(pepper)}"
        decisions.append(Decision("passwords", text))
    elif len(formats) > 1:
        text = f"the app writes one of {len(formats)} formats of passwords ({evidence})"
        decisions.append(Decision("passwords", text))
    elif unexplained:
        text = f"{len(unexplained)} of {total} passwords have an unknown format; the app may write that one"
        decisions.append(Decision("passwords", text))
    candidate = list[Line | str]()
    if decisions and not problem:
        candidate.append(
            Line("password", {**password, "writes": prefix, "accepts": [*formats]}, is_candidate=True)
        )
    if not decisions:
        password["writes"] = prefix
    else:
        password["accepts"] = [*formats]
    lines: list[Line | str] = [
        Line("password", password, evidence),
        *candidate,
        "The database does not show whether the app adds a secret of its configuration to passwords: pepper = true",
    ]
    return Draft(columns=sample.columns, lines=lines, decisions=decisions)


def _begins(text: str, start: str) -> bool:
    return text == start if start in ("", "x") else text.startswith(start)


def _describe_unknown(sample: StoredPasswords) -> Draft:
    reason = "no known format" if sample.stored else "no stored hash shows the format"
    line = Line(
        "password",
        {"column": sample.columns[-1], "writes": "$2b$10$"},
        f"{reason}; {len(sample.stored)} values",
        is_candidate=True,
    )
    decision = Decision("passwords", f"the format of passwords: {reason}")
    return Draft(columns=sample.columns, lines=[line], decisions=[decision])
