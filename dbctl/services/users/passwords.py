"""Passwords of users: the columns that store them, and the formats that the profile declares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cached_property

from dbctl.engines.contract.database import Condition, Readable
from dbctl.errors.base import Remedy
from dbctl.errors.usage import NotSupportedError, PasswordWrongError, PlanChangedError
from dbctl.model import Closing, Secret, Struct
from dbctl.profiles.codecs import HashFormat, text_or_none
from dbctl.profiles.model.users import Password, PasswordKey
from dbctl.profiles.passwords import (
    JOINT,
    compute_hmac,
    find_hash_problem,
    has_hash_form,
    identify_format,
    match_format,
    trim_password,
    verify_password,
)
from dbctl.services.app.app import App
from dbctl.services.app.live_table import LiveTable
from dbctl.services.app.user_table import User, open_users

#: Rows at each end of the users table whose hashes are compared with the declared formats, and the time limit of a read.
SAMPLE_ROWS, SAMPLE_LIMIT = 500, timedelta(seconds=2)


class PasswordChecked(Struct, frozen=True, kw_only=True):
    """Result of ``users check-password``."""

    login: str
    matches: bool

    @property
    def closing(self) -> Closing:
        return Closing(f"The password of {self.login} {'matches' if self.matches else 'does not match'}")


class StoredFormats(Struct, frozen=True):
    """The formats of a sample of stored passwords."""

    row_count: int  #: rows with a value that is not empty
    undeclared: Mapping[HashFormat, int]  #: hashes in known formats that the profile does not declare
    unknown: int  #: values in no known format that the profile does not list as unusable
    is_unknown: bool  #: whether the app may write another format: users have hashes in an unknown one, or none in a declared one

    def describe_undeclared(self) -> str:
        """Return the undeclared formats with the numbers of their hashes."""
        return ", ".join(f"{name} ({count} of {self.row_count})" for name, count in self.undeclared.items())


class Passwords:
    """The stored passwords of an app.

    The text of a hash is the values of ``columns``, joined: most apps have a single column.
    """

    def __init__(self, app: App, live: LiveTable) -> None:
        self.section = require_passwords(app)
        self._app, self._live = app, live
        self.columns = [live.column(name) for name in self.section.columns]
        written = match_format(self.section.writes, is_prefix=True)
        #: the formats that the app accepts, first the format that it writes
        self.formats = list(dict.fromkeys([*(written[:1] if written else ()), *self.section.accepts]))

    def join(self, values: Sequence[object]) -> str | None:
        """Return the text of the hash in the values of ``columns``; None: the user has no password."""
        return None if values[-1] is None else JOINT.join(text_or_none(value) or "" for value in values)

    def split(self, hashed: str) -> dict[str, str]:
        """Return the values of ``columns`` that store a hash."""
        return dict(zip(self.columns, hashed.rsplit(JOINT, len(self.columns) - 1), strict=True))

    def verify(self, password: Secret, stored: str) -> bool:
        """Return whether a password has the stored hash.

        Raises:
            HashExpensiveError: the hash demands too much time or memory.
            PepperMissingError: the app appends a secret to passwords, which is not available.
        """
        return verify_password(add_pepper(self._app, password), stored, self.formats)

    def find_problem(self, stored: str) -> str:
        """Return why a stored text is not a password hash in a declared format; empty: it is one."""
        if stored.count(JOINT) < len(self.columns) - 1:
            return f"it lacks a part of the hash: expected the values of {', '.join(self.columns)}, joined by {JOINT}"
        return "" if self._is_unusable(stored) else find_hash_problem(stored, self.formats)

    def is_declared(self, stored: str) -> bool:
        """Return whether a stored text is a hash in a declared format, or a value of accounts without password sign-in."""
        return self._is_unusable(stored) or identify_format(stored) in self.formats

    def _is_unusable(self, stored: str) -> bool:
        return any(fnmatchcase(stored, pattern) for pattern in self.section.unusable)

    @cached_property
    def stored_formats(self) -> StoredFormats:
        """The formats of the oldest and the newest users, because apps change formats over the years.

        Of other users none is read, however few of these have a password.
        """
        section = self._app.require_section(self._app.core.users, "users")
        live = self._live
        where = [Condition(self.columns[-1], "!=", None), *live.conditions(section.only)]
        sample = live.db.sample(live.name, self.columns, where, rows=SAMPLE_ROWS, timeout=SAMPLE_LIMIT) or []
        rows = [self.join(values) or "" for values in sample if any(values)]
        matches = [(stored, match_format(stored)) for stored in rows if not self._is_unusable(stored)]
        formats = Counter(match[0] for _, match in matches if match)
        unknown = [stored for stored, match in matches if match is None]
        declared = sum(formats.pop(name, 0) for name in self.formats)
        is_unknown = any(map(has_hash_form, unknown)) or (bool(unknown) and not declared)
        return StoredFormats(len(rows), formats, len(unknown), is_unknown)

    def require_declared_formats(self) -> None:
        """Refuse a new password if stored hashes have a format that the profile does not declare.

        Raises:
            PasswordFormatError: the app may not accept hashes in the format that the profile names.
            PasswordUnknownError: hashes have an unknown format, or no stored value shows that the app accepts that format.
            Others, as ``require_prefix`` and ``read_key``.
        """
        if self.section.writes:
            require_prefix(self._app)
        if self.section.hmac_key:
            read_key(self._app, self._live.db, self.section.hmac_key)
        stored = self.stored_formats
        if not (stored.undeclared or stored.is_unknown):
            return
        from dbctl.errors.users import PasswordFormatError, PasswordUnknownError

        if stored.undeclared:
            raise PasswordFormatError(
                target=self._live.db.target,
                formats=stored.describe_undeclared(),
                names=", ".join(f'"{name}"' for name in stored.undeclared),
            )
        count = f"{stored.unknown} of {stored.row_count}"
        raise PasswordUnknownError(target=self._live.db.target, count=count)


def describe_lost_password(login: str) -> str:
    """Return what is lost if the output with a generated password cannot be written."""
    lost = Remedy("Its password is lost. Set another one with: `users set-password {login} --generate`")
    return lost.write(facts={"login": login})


def require_passwords(app: App) -> Password:
    """Return the section of the profile about passwords.

    Raises:
        DecisionOpenError: the profile leaves open how the app stores passwords.
        FeatureMissingError: the app has no passwords.
        NotSupportedError: only the app can set them; the hint has the reason.
    """
    users = app.require_section(app.core.users, "users")
    if reason := users.only_app_sets_passwords:
        hint = f"Set the password in the app: {reason}."
        raise NotSupportedError(feature="setting passwords", subject=app.core.title, hint=hint)
    if users.password is None:
        app.require_decision("passwords", "passwords")
    return app.require_section(users.password, "passwords")


def compare_password(app: App, user: User, password: Secret) -> PasswordChecked:
    """Compare a password with the stored hash.

    Raises:
        PasswordWrongError: the password does not match.
        HashExpensiveError: the stored hash demands too much time or memory.
    """
    users = open_users(app)
    passwords = Passwords(app, users.live)
    rows = users.db.select(users.live.name, passwords.columns, [Condition(users.id, "=", user.id)])
    stored = passwords.join(rows[0]) if rows else None
    if stored is None or not passwords.verify(password, stored):
        raise PasswordWrongError(login=user.login)
    return PasswordChecked(login=user.login, matches=True)


def read_key(app: App, db: Readable, section: PasswordKey) -> Secret:
    """Return the key that the app applies to passwords, from the database of the users.

    Raises:
        PasswordKeyMissingError: there is no key, or there are several.
        PlanChangedError: a password of this command was hashed with another key.
    """
    live = LiveTable(app.core, db, section.table, "passwords")
    keys = list(db.select(live.name, [live.column(section.column)], live.conditions(section.only), limit=2))
    value = text_or_none(keys[0][0]) if len(keys) == 1 else None
    if not value:
        from dbctl.errors.users import PasswordKeyMissingError

        reason = "several rows" if len(keys) > 1 else "an empty value" if keys else "no row"
        raise PasswordKeyMissingError(target=db.target, table=live.name, reason=reason)
    key = app.password_key or Secret(value)
    if key.reveal() != value:
        raise PlanChangedError(target=db.target)
    app.password_key = key
    return key


def add_pepper(app: App, password: Secret) -> Secret:
    """Return the text that the app hashes: the password as its forms pass it on, and its secret, or the HMAC with its key.

    Raises:
        PepperMissingError: the secret is not available.
        PasswordKeyMissingError: the database has no key.
    """
    section = require_passwords(app)
    text = password.reveal()
    if section.typed:
        text = trim_password(text, slashes=section.typed == "slashed")
    if section.normal_form:
        from unicodedata import normalize

        text = normalize(section.normal_form, text)
    if section.pepper:
        text += require_pepper(app).reveal()
    if section.hmac_key:
        key = app.password_key or read_key(app, open_users(app).db, section.hmac_key)
        text = compute_hmac(text, key).reveal()
    return Secret(text)


def require_pepper(app: App) -> Secret:
    """Return the secret that the app appends to passwords, if ``pepper`` of its section is set.

    Raises:
        PepperMissingError: the secret is not available.
    """
    from dbctl.config.secrets import read_pepper

    return read_pepper(app.configured)


def require_prefix(app: App) -> str:
    """Return the prefix of new hashes; raises as ``hash_password`` of ``create.py``."""
    prefix = require_passwords(app).writes
    app.require_decision("passwords", "setting passwords")
    if not prefix:
        hint = "Set the password in the app: the profile has no users.password.writes."
        raise NotSupportedError(feature="setting passwords", subject=app.core.title, hint=hint)
    return prefix
