"""What a new password changes: the hash, in a format that verifies it, further columns of the user, and ended sign-ins."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dbctl.extensions.drafts import usual_names
from dbctl.extensions.drafts.document import Decision, Value
from dbctl.extensions.drafts.learning.rules.password_hashes import (
    LearnedHash,
    describe_attempts,
    find_hash,
    is_password_hash,
    list_peppers,
)
from dbctl.extensions.drafts.learning.rules.user_rows import RECORD, UserRule
from dbctl.extensions.drafts.learning.scene import ChangedRow, Lesson, Scene, decode_changes
from dbctl.model import Row, Secret, format_count
from dbctl.profiles.codecs import read_text
from dbctl.profiles.passwords import find_prefix_problem, has_byte_limit, match_format, read_prefix
from dbctl.services.app.evidence import references, subjects
from dbctl.services.users.sign_in_state import NEXT

#: Columns whose new value ends sign-ins: stamps, and versions of tokens.
_STAMP = re.compile(r"stamp|uniquifier|session|token|jwt|epoch|auth_version")
#: Constants that need no second demonstration.
_NEUTRAL = (0, 1, "")
#: Characters of the shortest hash.
SHORTEST_HASH = 13


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
        keys=[scene.create_key("users", "password", value=section)],
        decided=["passwords"],
        decisions=[Decision("passwords", problem)] if problem else [],
        notes=learned.notes,
    )


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


class PasswordRule(UserRule):
    """The rows that changed with the password of one user."""

    def learn(self) -> Lesson:
        """Return the section about passwords, whose format verifies the password that was entered.

        Raises:
            DemonstrationWrongError: no password of the user changed.
        """
        scene, changed = self.scene, [name for name, value in (self.own.after or {}).items() if value]
        if scene.password is None:
            raise scene.create_error(
                "the password is unknown", "Pass the password that was entered: --password-stdin."
            )
        user = scene.find_user(after=True)
        learned = find_hash(scene, user, changed, scene.password)
        if learned is None:
            self._leave_hash_open(scene.password, user, changed)
            return self.create_lesson([])
        section, problem = _describe_section(scene, learned)
        if problem:
            self.leave_open("passwords", problem)
        also, renewed = self._explain_columns(learned)
        if also:
            section["also"] = also
        via = f" ({scene.interface})" if scene.interface else ""
        keys = [scene.create_key("users", "password", value=section, remark=via)]
        if renewed:
            value: Mapping[str, Value] = {**self.users.on_sign_out, **renewed}
            keys.append(scene.create_key("users", "on_sign_out", value=value))
        named = [
            name
            for name in dict.fromkeys(row.table for row in self.rows if row.before)
            if name not in self.users.sign_in_tables
            and usual_names.SESSIONS_TABLE.search(references.normalize(name))
        ]
        retained = self.learn_ended(named)
        self._explain_rows()
        topics = self.decide([*self.sections, *retained])
        self.notes += [*self._contradict(also), *learned.notes]
        self.notes += [
            f"the app retains the rows of {name} of the user with a new password" for name in retained
        ]
        return self.create_lesson([*keys, *self.create_keys()], ["passwords", *topics])

    def _leave_hash_open(self, password: Secret, user: Row, changed: Sequence[str]) -> None:
        """Leave open a hash that no format verifies.

        Raises:
            DemonstrationWrongError: no value of the user changed that could be a hash, nor does another row have one.
        """
        scene = self.scene
        for row in scene.list_rows():
            for name, value in (row.after or {}).items() if row.table != self.table.name else ():
                texts = (Secret(password.reveal() + pepper.reveal()) for pepper in list_peppers(scene))
                if isinstance(value, str) and any(is_password_hash(text, value) for text in texts):
                    text = f"{row.table}.{name} has the hash of the password, a table that users.password cannot name"
                    self.leave_open("passwords", text)
                    return
        hashes = [name for name in changed if len(read_text(user[name])) >= SHORTEST_HASH]
        if not hashes:
            raise scene.create_error(f"no value of {scene.subject.login!r} changed that could be a password")
        text = f"no known format verifies the new password in {', '.join(hashes)}; tried: {describe_attempts(scene, user, hashes)}"
        self.leave_open("passwords", text)

    # Columns of the user ---------------------------------------------------------------------------------------------

    def _explain_columns(self, learned: LearnedHash) -> tuple[dict[str, Value], dict[str, Value]]:
        """Return the new values of further columns, and of those that end sign-ins."""
        also, renewed = dict[str, Value](), dict[str, Value]()
        completed = {*learned.columns, *self.users.on_sign_out, self.scene.user_fields.get("updated_at")}
        after = self.own.after or {}
        for name in after:
            place = f"{self.users.table}.{name}"
            if name in completed:
                continue
            if usual_names.is_actor(self.table, name):
                self.unrelated[place] = "the user who acted in the app"
                continue
            value = self._explain_value(name, (self.own.before or {}).get(name), after[name])
            if value is None:
                self.leave_open("passwords", f"the value of {place}, which changes with the password")
            elif _STAMP.search(references.normalize(name)) and value != ":null":
                renewed[name] = value
            else:
                also[name] = value
        for row in self.rows:
            if row.table == self.users.table:
                places = [f"{row.table}.{name}" for name in row.after or {} if name not in after]
                self.unrelated |= dict.fromkeys(places, "of other users")
        return also, renewed

    def _explain_value(self, column: str, before: object, after: object) -> Value | None:
        """Return the value that a profile writes; None: nothing explains it."""
        definition, stored = self.table.columns[column], self.table.values(column)
        is_number = isinstance(after, int) and not isinstance(after, bool)
        if after is None or subjects.is_time(definition, [*stored, after]):
            return ":null" if after is None else ":now"
        if isinstance(after, bool | int) and subjects.is_boolean(definition, [*stored, after]):
            return bool(after)
        if is_number and isinstance(before, int) and after == before + 1:
            return NEXT
        texts = [read_text(value) for value in (before, after) if isinstance(value, str | bytes) and value]
        if isinstance(after, str | bytes) and (generator := subjects.guess_generator(texts)):
            return generator
        earlier = [
            values[column]
            for recording in self.scene.earlier
            for row in decode_changes(recording.changes, self.users.table)
            if column in (values := row.after or {})
        ]
        is_repeated = bool(earlier) and all(str(other) == str(after) for other in earlier)
        return after if isinstance(after, str | int | float) and (after in _NEUTRAL or is_repeated) else None

    def _contradict(self, also: Mapping[str, Value]) -> Iterator[str]:
        """Yield what the profile has and the demonstration does not show."""
        users = self.users
        earlier = users.password.also if users.password else {}
        if missing := earlier.keys() - also.keys():
            yield f"{', '.join(sorted(missing))} did not change in this demonstration, but in an earlier one"
        if unchanged := users.on_sign_out.keys() - (self.own.after or {}).keys():
            yield f"{', '.join(sorted(unchanged))} did not change, but users.on_sign_out changes it with the password"

    # Rows of other tables --------------------------------------------------------------------------------------------

    def _explain_rows(self) -> None:
        """Say why rows of other tables do not belong to the change, or leave them open, but the ended ones of learned tables."""
        learned = self.sections
        changed, deleted = Counter[str](), Counter[str]()
        for row in self.scene.list_rows():
            is_local = row.database == self.scene.users_database
            if is_local and (
                row.table == self.table.name
                or (row.before is not None and row.table in learned)
                or (row.after is None and row.table in self.users.sign_in_tables)
            ):
                continue
            if row.before is None and row.table in {*learned, *self.users.sign_in_tables}:
                self.unrelated[row.table] = "the app began a new session with the new password"
            elif _is_log(row):
                self.unrelated[row.table] = RECORD
            elif not (
                self.key in row.key.values() or (self.is_own(row) if is_local else self._may_be_own(row))
            ):
                self.unrelated[row.table] = "the rows have no key of the user"
            else:
                (deleted if row.after is None else changed)[row.table] += 1
        for verb, counts in (("changes", changed), ("deletes", deleted)):
            for name, count in counts.items():
                self.unrelated.pop(name, None)
                self.leave_open("passwords", f"the app also {verb} {format_count(count, 'row')} of {name}")

    def _may_be_own(self, row: ChangedRow) -> bool:
        """Return whether a row of another database has the key of the user, maybe by chance."""
        values = [*(row.before or {}).values(), *(row.after or {}).values()]
        return str(self.key) in map(str, values)


def _is_log(row: ChangedRow) -> bool:
    """Return whether a row was added to a log; one with a hash of the password, as in a history of passwords, belongs to the change."""
    has_hash = any(
        isinstance(value, str) and match_format(read_prefix(value), is_prefix=True)
        for value in (row.after or {}).values()
    )
    return row.before is None and usual_names.is_log(row.table) and not has_hash
