"""Whether the destination accepts a new user of the app: ``users create`` in a transaction that is rolled back."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from typing import Literal

from dbctl.engines.contract.database import Condition, Writable
from dbctl.errors.base import DbctlError
from dbctl.errors.connection import ConstraintError
from dbctl.errors.usage import (
    AmbiguousLoginError,
    NotSupportedError,
    ProfileContradictionError,
    UserMissingError,
    ValueInvalidError,
)
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.portable.contract import require
from dbctl.extensions.transfer.portable.write_lock import WriteProofs
from dbctl.model import Struct, format_count
from dbctl.profiles.model.base import Rule
from dbctl.profiles.passwords import new_password
from dbctl.services.app.app import App
from dbctl.services.app.change import retry_conflicts
from dbctl.services.app.evidence.facts import refuse_contradictions
from dbctl.services.app.live_table import list_uncovered
from dbctl.services.app.proofs import find_proof
from dbctl.services.app.user_table import User, UserTable, users_database
from dbctl.services.migrations.status import read_version
from dbctl.services.users.create import CreateUser, NewUser, hash_password
from dbctl.services.users.passwords import Passwords
from dbctl.services.users.sign_in_state import count_tokens
from dbctl.spec import Fact

_COMMAND = "users create"
#: The facts of the profile by which the command writes.
_FACTS: Sequence[Fact] = ("user-key", "user-created", "active", "audit")
#: Errors by which the destination refuses a user that dbctl accepts; all others only prevent the trial.
_REFUSALS = (
    ConstraintError,
    ValueInvalidError,
    UserMissingError,
    AmbiguousLoginError,
    ProfileContradictionError,
)


class UserTrial(Struct, frozen=True, kw_only=True):
    """A user that was added to the destination and rolled back."""

    #: ``accepted``: it was added and found again; ``refused``; ``unknown``: no user could be tried
    outcome: Literal["accepted", "refused", "unknown"]
    facts: Sequence[str]  #: what was tried, with its result, and whether ``users create`` is proven


def try_new_user(endpoints: Endpoints) -> UserTrial | None:
    """Add a user with generated values to the destination, and roll that back; None: the database has no users."""
    app, database = endpoints.destination, endpoints.database
    if app.core.users is None or users_database(app) != database:
        return None
    try:
        # what the source contradicts, too, is no defect of the destination
        refuse_contradictions(endpoints.app, database, endpoints.open_source(), _FACTS)
        if database == app.main_database:  # the destination may have another variant of the profile
            app.resolve_profile()
        with app.writer(database) as db:
            return _try_user(app, db)
    except DbctlError as error:
        reason = f"{error}. {error.hint}" if isinstance(error, NotSupportedError) else str(error)
        return UserTrial(outcome="unknown", facts=[f"{_COMMAND} was not tried on the destination: {reason}"])


def _try_user(app: App, db: Writable) -> UserTrial:
    """Try one user; raises the errors that ``users create`` has on every database with these tables."""
    users, password = UserTable(app, db), new_password()
    has_password = users.section.password is not None
    hashed = hash_password(app, password) if has_password else ""
    new = NewUser(fields=_generate_fields(users), password_hash=hashed)
    prepared = CreateUser(users, new)
    try:
        refuse_contradictions(app, users_database(app), db, _FACTS)
        user, stored = retry_conflicts(partial(_add_user, db, users, prepared, new))
    except _REFUSALS as error:
        problem = str(error)
    else:
        tokens, problem = count_tokens(users, user), ""
        if has_password and not Passwords(app, users.live).verify(password, stored):
            problem = "the stored hash does not match the password"
        elif tokens and tokens.valid:
            problem = (
                f"{format_count(tokens.valid, 'sign-in')} of an earlier user with the new key remain valid"
            )
    if problem:
        fact = f"{_COMMAND} fails on the destination: {problem}"
    else:
        checked = " and its password matches the stored hash" if has_password else ""
        logins = " and ".join(users.login_fields)
        fact = (
            f"{_COMMAND} was tried on the destination and rolled back: the user is found by {logins}{checked}"
        )
    return UserTrial(outcome="refused" if problem else "accepted", facts=[fact, _describe_proof(app, db)])


def _add_user(db: Writable, users: UserTable, prepared: CreateUser, new: NewUser) -> tuple[User, str]:
    """Add a user and roll that back; return what was read before the rollback: the user, and the hash of the password."""
    audit = users.app.core.audit
    tables = {*prepared.plan.rows, *([audit.table] if audit else [])} & db.tables().keys()
    with require(db, WriteProofs).rolled_back_transaction(tables):
        user, stored = prepared.apply(db).user, ""
        for field in users.login_fields:
            if users.find_by_login(new.fields[field]).id != user.id:
                raise ConstraintError(target=db.target, reason=f"its {field} finds another user")
        if new.password_hash:
            passwords = Passwords(users.app, users.live)
            (values,) = db.select(users.live.name, passwords.columns, [Condition(users.id, "=", user.id)])
            stored = passwords.join(values) or ""
    return user, stored


def _generate_fields(users: UserTable) -> dict[str, str]:
    """Return values of the logins, of the address, and of required fields that the profile has a rule for."""
    login, rules = f"dbctl{secrets.token_hex(3)}", users.section.rules
    required = list_uncovered(users.live.table, ())
    ruled = [field for field in rules if users.fields.get(field) in required]
    fields = dict.fromkeys([*users.login_fields, *({"email"} & {*users.field_names}), *ruled])
    return {field: _generate_value(login, field, rules.get(field, Rule())) for field in fields}


def _generate_value(login: str, field: str, rule: Rule) -> str:
    if rule.values:
        return str(rule.values[0])
    if rule.format == "email" or field == "email":
        return f"{login}@example.org"
    shortest, longest = rule.length or (0, len(login))
    return login.ljust(shortest, "0")[:longest]


def _describe_proof(app: App, db: Writable) -> str:
    """Return whether the command is proven, and whether the destination has the ledger of the proof."""
    state = find_proof(app, _COMMAND)
    text = f"{_COMMAND} is {state.describe()}"
    if state.proof and (version := read_version(app, users_database(app))) != state.proof.ledger:
        text += f", but the last migration of {db.target} is {version or 'unknown'}"
    return text
