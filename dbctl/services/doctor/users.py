"""Whether somebody can administrate the app, everybody has a role that exists, and no password is everybody's."""

from __future__ import annotations

from collections.abc import Iterator

from dbctl.engines.contract import AnyOf, Condition
from dbctl.model import Finding, Secret, counted
from dbctl.profiles import HASHES
from dbctl.profiles.model import KnownLogin
from dbctl.services.app import App, UserTable
from dbctl.services.doctor.context import Subject
from dbctl.services.users import admin_role, admins, may_sign_in, queries

#: A stored hash so much dearer than the app's own is not tried: a hostile database could keep dbctl busy for days.
DEARER = 4
EXAMPLES = 5
MOST_IDS = 50  #: that one remedy names


def home(app: App) -> str:
    """Return the database that holds the app's users; empty where it has none."""
    told = app.profile.users
    return (told.database or app.main()) if told else ""


def roles(subject: Subject) -> Iterator[Finding]:
    """Yield whether nobody can administrate the app, and who has a role that does not exist."""
    people = queries.open_user_table(subject.app)
    if people.section.role:
        yield from _no_admin(subject, people)
        yield from _unknown_roles(subject, people)


def known_login(subject: Subject, told: KnownLogin) -> Iterator[Finding]:
    """Yield the accounts that have a password which everybody can know; the password itself is never told."""
    people = queries.open_user_table(subject.app)
    password = subject.app.ability(people.section.password, "passwords")
    codec, column = HASHES[password.codec], people.live.get(password.column)
    named = AnyOf([Condition(one, "same", told.login) for one in people.login_columns()])
    for user in people.read([named]):
        rows = people.db.select(people.live.name, [column], [Condition(people.id, "=", user.id)])
        stored = str(rows[0][0]) if rows else ""
        hint = told.hint or subject.dbctl("users", "set-password", "--id", str(user.id), "--generate")
        if codec.cost(stored) > password.cost + DEARER:
            message = (
                f"{user.login} (id {user.id}) was not tried: what is stored would take too long to look at"
            )
            yield subject.finding("warning", "not-tried", message, hint)
        elif codec.fits(Secret(told.password), stored):
            active = may_sign_in(people, user)
            state = "" if active else ", and is not active"
            message = (
                f"{user.login} (id {user.id}) has the password that everybody can know ({told.name}){state}"
            )
            yield subject.finding(told.severity if active else "info", "known-login", message, hint)


def _no_admin(subject: Subject, people: UserTable) -> Iterator[Finding]:
    role, holders = admin_role(people), admins(people)
    if not people.section.admin or any(may_sign_in(people, user) for user in holders):
        return
    if holders:
        message = f"no {role} is active: nobody can administrate the app"
        line = subject.dbctl("users", "activate", "--id", str(holders[0].id))
        yield subject.finding("error", "no-admin", message, line)
    elif people.db.count(people.live.name):
        message = f"nobody has the role {people.section.admin}: nobody can administrate the app"
        line = subject.dbctl("users", "set-role", "LOGIN", role or people.section.admin)
        yield subject.finding("error", "no-admin", message, line)
    else:
        message = "there are no users yet"
        line = subject.dbctl("users", "create", "LOGIN", "--email", "ADDRESS", "--role", people.section.admin)
        yield subject.finding("warning", "no-admin", message, line)


def _unknown_roles(subject: Subject, people: UserTable) -> Iterator[Finding]:
    known = people.roles()
    held = people.db.tally(people.live.name, people.role_column())
    unknown = {key: number for key, number in held.items() if key is not None and key not in known}
    if not unknown:
        return
    lost = people.read([people.live.among(people.role_column(), list(unknown))])
    told = people.section.role
    role = told.default if told and told.default in known.values() else "ROLE"
    listed = ", ".join(f"{user.login} {user.role}" for user in lost[:EXAMPLES])
    listed += " …" if len(lost) > EXAMPLES else ""
    message = f"{counted(len(lost), 'user')} with a role that does not exist may be kept out: {listed}"
    ids = [word for user in lost[:MOST_IDS] for word in ("--id", str(user.id))]
    yield subject.finding("error", "unknown-role", message, subject.dbctl("users", "set-role", *ids, role))
