"""Accounts and roles that a dump names: read them for the manifest, compare them with a server, create them, or load without them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

import msgspec
import pymysql

from dbctl import signals
from dbctl.engines.contract.dumps import LoadRequest, RolePolicy
from dbctl.engines.mysql import foreign
from dbctl.engines.mysql.grants import matches_pattern, parse_grant
from dbctl.engines.mysql.opening import error_number, quote, quote_account
from dbctl.engines.mysql.session import Session
from dbctl.engines.mysql.stored_code import DEFINED
from dbctl.engines.mysql.values import escape_pattern, format_literal
from dbctl.engines.servers.dumps import OMIT_SECRETS, ServerRoles
from dbctl.errors.connection import PrivilegeMissingError
from dbctl.model import Struct, format_count

#: Roles have no host.
ACCOUNTS = "select user, host, {0}, super_priv = 'Y' from mysql.user"
#: Accounts with rights on databases, whose names may be patterns, and on single objects.
GRANTEES = """select user, host, db, true from mysql.db
union select user, host, db, false from mysql.tables_priv union select user, host, db, false from mysql.columns_priv
union select user, host, db, false from mysql.procs_priv"""
#: Roles, their members, and whether these may grant them.
MEMBERSHIPS = {
    "MariaDB": "select role, '', user, host, admin_option = 'Y' from mysql.roles_mapping",
    "MySQL": "select from_user, from_host, to_user, to_host, with_admin_option = 'Y' from mysql.role_edges",
}
#: The user may not read this table of the server.
NOT_VISIBLE = frozenset({1044, 1142, 1227})
_QUOTED = r"(?:`(?:[^`]|``)*`|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
_ACCOUNT = f"{_QUOTED}@{_QUOTED}"
#: The definition of an account after its name, with a hash: an account without a password would be open on the other server.
_DEFINITION = re.compile(
    rf"CREATE USER {_ACCOUNT} (IDENTIFIED .*(?:PASSWORD|USING|AS) (?:'[^']+'|0x[0-9A-F]+).*)", re.DOTALL
)
#: Roles that MySQL activates at login, which may not exist when an account is created.
_DEFAULT_ROLES = re.compile(rf" DEFAULT ROLE {_ACCOUNT}(?:,{_ACCOUNT})*")
_NAMED = re.compile(rf"=\s*({_QUOTED})(?:@({_QUOTED}))?".encode())


class Grant(Struct, frozen=True, kw_only=True):
    """Rights on the database of a dump, or on an object of it."""

    rights: str
    kind: str = ""  #: of a routine
    name: str = ""  #: of the object; empty: all objects
    has_grant_option: bool = False


class Account(Struct, frozen=True, kw_only=True):
    """An account or a role of the server of a dump."""

    name: str  #: ``user@host``; a role of MariaDB has no host
    is_named: bool  #: whether the dump or a grant on its database names it; otherwise it is connected to one by membership
    is_role: bool = False
    member_of: Sequence[tuple[str, bool]] = ()  #: role, and whether it may grant it
    grants: Sequence[Grant] = ()
    server_rights: str = ""  #: rights on the whole server, which a restore never gives

    def describe(self, policy: RolePolicy) -> str:
        """Return with what a restore creates the account, and what it leaves out."""
        definition = policy.passwords.get(self.name, "")
        is_without = policy.missing == "create" and not (self.is_role or definition)
        is_locked = is_without or " ACCOUNT LOCK" in definition
        words = ["role" if self.is_role else "locked account" if is_locked else "account"]
        words += ["with its password"] if definition else []
        words += [f"member of {', '.join(name for name, _ in self.member_of)}"] if self.member_of else []
        words += [f"grants on {format_count(len(self.grants), 'object')}"] if self.grants else []
        without = ["a password"] if is_without else []
        without += [f"{self.server_rights} on the server"] if self.server_rights else []
        return ", ".join(words) + (f"; without {', '.join(without)}" if without else "")

    def create_statement(self, policy: RolePolicy) -> str:
        place = quote_name(self.name)
        if self.is_role:
            return f"create role {place}"
        return f"create user {place} {policy.passwords.get(self.name, 'account lock')}"


class AccountChanges(Struct, frozen=True, kw_only=True):
    """The accounts that take the place of those in a dump."""

    accounts: Sequence[Account] = ()
    existing: Collection[str] = ()
    created: Collection[str] = ()
    replaced: Mapping[str, str] = {}
    skipped: Collection[str] = ()  #: whose objects belong to the account that loads them

    def make_filter(self, target: str) -> Callable[[Iterator[bytes]], Iterator[bytes]]:
        """Return a function that replaces or removes the definers in the text of a dump."""
        if not (self.replaced or self.skipped):
            return iter

        def change(clause: bytes) -> bytes:
            match = _NAMED.search(clause)
            parts = (
                [part[1:-1].replace(part[:1] * 2, part[:1]).decode() for part in match.groups() if part]
                if match
                else []
            )
            name = "@".join(filter(None, parts))
            if name in self.replaced:
                return f"DEFINER={quote_name(self.replaced[name])}".encode()
            return b"" if name in self.skipped else clause

        return lambda blocks: foreign.change_definers(blocks, target, change)

    def grant(self, session: Session, database: str, *, only_created: bool = False) -> Iterator[str]:
        """Grant the rights on a new database, with ``only_created`` to created accounts; yield what was refused."""
        names = self.created if only_created else self.existing
        whole = f"{quote(escape_pattern(database))}.*"
        for account in self.accounts:
            name = self.replaced.get(account.name, account.name)
            for grant in account.grants if name in names else ():
                place = f"{quote(database)}.{quote(grant.name)}" if grant.name else whole
                option = " with grant option" if grant.has_grant_option else ""
                sql = f"grant {grant.rights} on {grant.kind} {place} to {quote_name(name)}{option}"
                try:
                    session.run(sql)
                except pymysql.Error as error:
                    yield f"a right was not granted ({error.args[-1]}): {sql}"


def quote_name(name: str) -> str:
    """Return an account or a role in SQL."""
    return quote_account(name) if "@" in name else quote(name)


def join_name(user: object, host: object) -> str:
    """Return the name of an account, or of a role without a host."""
    return f"{user}@{host}" if host else str(user)


def read_accounts(session: Session) -> str:
    """Return the accounts that a dump of the database of a session names, as JSON for a manifest.

    A user who may not read the accounts of the server sees definers only, and not whether they exist.
    """
    database = session.database
    definers = session.run(f"select distinct definer from {DEFINED.format(format_literal(database))}")
    names = {str(name).removesuffix("@") for (name,) in definers}
    known = _read_known(session)
    if known is None:
        accounts = [Account(name=name, is_named=True) for name in sorted(names)]
        return msgspec.json.encode(accounts).decode()
    names |= {
        join_name(user, host)
        for user, host, place, is_pattern in session.run(GRANTEES)
        if (matches_pattern(str(place), database) if is_pattern else place == database)
    }
    edges = [
        (join_name(role, role_host), join_name(user, host), bool(administers))
        for role, role_host, user, host, administers in session.run(MEMBERSHIPS[session.server.product])
    ]
    named = names & known.keys()
    above = _close(named, [(member, role) for role, member, _ in edges])
    below = _close(named, [(role, member) for role, member, _ in edges])
    accounts = []
    for name in sorted((above | below) & known.keys()):
        is_role, is_administrator = known[name]
        if is_administrator and name not in named:
            continue
        grants, server_rights = _read_grants(session, name, database)
        accounts.append(
            Account(
                name=name,
                is_named=name in named,
                is_role=is_role,
                member_of=[(role, administers) for role, member, administers in edges if member == name],
                grants=grants,
                server_rights=server_rights,
            )
        )
    return msgspec.json.encode(accounts).decode()


def read_passwords(session: Session, target: str) -> dict[str, str]:
    """Return the definitions of the accounts of ``read_accounts`` that have a password, as ``Dumps.read_role_passwords`` describes."""
    known = _read_known(session)
    if known is None:
        reason = "this user may not read the passwords of accounts (mysql.user)"
        raise PrivilegeMissingError(target=target, reason=reason, hint=OMIT_SECRETS)
    if not session.server.is_mariadb:  # its hashes are bytes
        session.run("set session print_identified_with_as_hex = on")
    passwords = dict[str, str]()
    for account in msgspec.json.decode(read_accounts(session), type=list[Account]):
        _, is_administrator = known.get(account.name, (True, True))
        if account.is_role or is_administrator:
            continue
        ((text,),) = session.run(f"show create user {quote_name(account.name)}")
        if match := _DEFINITION.fullmatch(str(text)):
            passwords[account.name] = _DEFAULT_ROLES.sub("", match[1], count=1)
    return passwords


def _read_known(session: Session) -> dict[str, tuple[bool, bool]] | None:
    """Return whether each account is a role, and whether it administers the server; None: this user may not read them."""
    is_role = "is_role = 'Y'" if session.server.is_mariadb else "false"
    try:
        rows = session.run(ACCOUNTS.format(is_role))
    except pymysql.Error as error:
        if error_number(error) not in NOT_VISIBLE:
            raise
        return None
    return {join_name(user, host): (bool(role), bool(admin)) for user, host, role, admin in rows}


def _close(names: Collection[str], edges: Iterable[tuple[str, str]]) -> set[str]:
    """Return names with all names that edges reach from them."""
    result, edges = set(names), list(edges)
    while further := {target for source, target in edges if source in result} - result:
        result |= further
    return result


def _read_grants(session: Session, name: str, database: str) -> tuple[list[Grant], str]:
    grants, server_rights = list[Grant](), ""
    for (line,) in session.run(f"show grants for {quote_name(name)}"):
        parsed = parse_grant(str(line))
        if parsed is None or parsed.verb != "GRANT":
            continue
        if parsed.database == "*":
            server_rights = "" if parsed.rights == "USAGE" else parsed.rights
        elif parsed.is_of(database):
            grants.append(
                Grant(
                    rights=parsed.rights,
                    kind=parsed.kind,
                    name="" if parsed.name == "*" else parsed.name,
                    has_grant_option=parsed.has_grant_option,
                )
            )
    return grants, server_rights


class Accounts(ServerRoles[Account]):
    kind, word = Account, "account"
    _session: Session

    def read_names(self) -> Collection[str] | None:
        return _read_known(self._session)

    @contextmanager
    def prepare(
        self, request: LoadRequest, remarks: list[str], *, temporary: bool = False
    ) -> Iterator[AccountChanges]:
        """Yield the changes of a dump, after missing accounts were created; as ``create_missing``."""
        with self.create_missing(request, remarks, temporary=temporary) as (created, skipped):
            yield AccountChanges(
                accounts=self.parse(request.dump),
                existing=self._list_existing(created),
                created=[account.name for account in created],
                replaced=request.roles.replaced,
                skipped=skipped,
            )

    def _list_existing(self, created: Sequence[Account]) -> set[str]:
        return {*(self.read_names() or ()), *(account.name for account in created)}

    def _create(self, accounts: Sequence[Account], policy: RolePolicy) -> None:
        existing = self._list_existing(accounts)
        for account in accounts:
            self._session.run(account.create_statement(policy))
        for account in accounts:
            for role, administers in account.member_of:
                if role in existing:
                    option = " with admin option" if administers else ""
                    self._session.run(f"grant {quote_name(role)} to {quote_name(account.name)}{option}")

    def _drop(self, accounts: Sequence[Account]) -> None:
        with signals.block_signals():
            for account in accounts:
                with suppress(pymysql.Error):
                    kind = "role" if account.is_role else "user"
                    self._session.run(f"drop {kind} if exists {quote_name(account.name)}")
