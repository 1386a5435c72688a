"""``dbctl copy --anonymise``: load a backup privately, rewrite it, prove the result, and load it into the destinations."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import msgspec

from dbctl import progress
from dbctl.engines.contract.database import Writable
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.usage import FeatureMissingError, UsageError
from dbctl.extensions.copies.errors import (
    CopyKeysError,
    CopyLeakError,
    CopyRulesMissingError,
    CopyUnreadableError,
)
from dbctl.extensions.copies.proof import (
    CONSTANTS,
    Originals,
    Proof,
    Scanner,
    collect_originals,
    count_by_column,
    find_copied,
    read_file,
)
from dbctl.extensions.copies.pseudonyms import Pseudonyms
from dbctl.extensions.copies.rules import ColumnRule, DatabaseRules, TableRule, resolve_rules
from dbctl.extensions.copies.sample import Sample
from dbctl.extensions.copies.sampled import PrivateCopy
from dbctl.files.atomic import write_atomically
from dbctl.model import ChangeResult, Effect, Plan, Row, Secret, Struct, format_count
from dbctl.profiles.passwords import new_password
from dbctl.services.app.app import App
from dbctl.services.app.user_table import open_users, users_database
from dbctl.services.restore.copy import CopiedDatabase, locate_record
from dbctl.services.restore.source import BackupSource, count_content
from dbctl.services.search.fulltext import define_index
from dbctl.services.users.create import hash_password
from dbctl.services.users.passwords import Passwords
from dbctl.services.users.second_factors import remove_all
from dbctl.url import Url, parse_url

#: Columns that a remark names.
NAMED = 5
#: In ``Proof.copied_in``.
SCHEMA = "the schema"


class CopyOptions(Struct, frozen=True, kw_only=True):
    """What one run changes of the rules, and its secrets."""

    key: Path | None = None  #: the file of the key; None: a key that is used once
    keep: Collection[str] = ()  #: ``table.column`` to copy as they are
    keep_keys: Collection[str] = ()  #: ``table.column`` with documents whose keys and numbers are copied
    empty: Collection[str] = ()  #: tables without rows
    password: Secret | None = None  #: of all users; None: a generated one
    replace: bool = False  #: whether existing contents may be replaced
    samples: Sequence[Sample] = ()  #: the rows that are copied; without any, all


class AnonymisedCopy(ChangeResult, frozen=True, kw_only=True):
    """Result of ``copy --anonymise``."""

    is_timed = True

    backup: str
    databases: Sequence[CopiedDatabase]
    proofs: Sequence[Proof]
    tables: Mapping[str, str]  #: what happened to each table, by ``database.table``
    password: str | None = None  #: of every user who has one, if dbctl generated it; shown once
    key: str | None = None  #: the file of the key; None: it was used once
    duration: float  #: seconds
    proof_seconds: float  #: of these, for reading and searching the originals
    command: str  #: the beginning of dbctl commands on the copy
    remarks: Sequence[str]

    @property
    def effect(self) -> Effect | None:
        searched = format_count(sum(proof.searched for proof in self.proofs), "original")
        hits = sum(proof.hits for proof in self.proofs) or "none"
        return Effect(
            "copied",
            "database",
            count=len(self.databases),
            place=f"from {self.backup}, anonymised",
            details=[f"{searched} searched and {hits} found"],
            counts=count_content(self.databases),
        )

    @property
    def lost_output(self) -> Callable[[], str] | None:
        lost = Remedy(
            "The password of its users is lost. Create the copy again with: `copy --to FILE --anonymise --replace`"
        )
        return lost.write if self.password else None

    def summary(self) -> Row:
        row: dict[str, object] = {}
        for database, proof in zip(self.databases, self.proofs, strict=True):
            content = f"{format_count(database.rows, 'row')} of {format_count(database.tables, 'table')}"
            row[database.database] = f"{content}, in {database.url}"
            row[f"proof of {database.database}"] = describe_proof(proof)
        password = {"password": self.password} if self.password else {}
        return row | password | {"usage": f"{self.command} COMMAND"}


def describe_proof(proof: Proof) -> str:
    kind = "a sample of " if proof.is_sample else ""
    return f"{kind}{format_count(proof.searched, 'original')} searched in {proof.bytes:,} bytes, {proof.hits} hits"


class AnonymiseCopy(PrivateCopy):
    """Create anonymised copies of databases; those of the app are not opened."""

    def __init__(self, source: BackupSource, to: Mapping[str, Url], options: CopyOptions) -> None:
        """Assign an address to each database, and read the key; raises as ``PrivateCopy``."""
        super().__init__(source, to, replace=options.replace, key=options.key, samples=options.samples)
        self._options, self._password = options, options.password or new_password()
        self._remarks = list[str]()
        self._proof_seconds = 0.0
        self._indexes = dict[str, Sequence[str]]()  #: the full-text indexes of searches in each database

    @cached_property
    def _rules(self) -> Mapping[str, DatabaseRules]:
        """The rules of each database.

        Raises:
            CopyRulesMissingError: a column that can hold personal data has no rule.
            CopyUnreadableError: a table cannot be read.
            UsageError: a table or a column of the options does not exist.
        """
        with self._private.open_app() as app:
            rules = {name: self._resolve(app, name) for name in self._private.urls}
            self._require_names(app)
        for name, database_rules in rules.items():
            with self._private.open_writer(name) as (_, rewriter):
                objects, texts = rewriter.find_unreadable(), rewriter.find_texts(database_rules.impersonal)
            if missing := [*database_rules.missing, *texts]:
                raise CopyRulesMissingError(
                    target=self._app.target(name),
                    count=format_count(len(missing), "column"),
                    columns=", ".join(missing),
                )
            if objects:
                raise CopyUnreadableError(
                    target=self._app.target(name),
                    objects=", ".join(objects),
                    reason="they belong to a module that is not installed, or to no table",
                    hint=Remedy("Copy the other databases with: `copy --to NAME=ADDRESS --anonymise`"),
                )
        return rules

    def _resolve(self, app: App, name: str) -> DatabaseRules:
        db, empty = app.reader(name), self._options.empty
        specs = [define_index(search, db) for search in app.profile.search if search.database == name]
        self._indexes[name] = [spec.index_table for spec in specs if spec]
        rules = resolve_rules(app, name, db, keep=self._options.keep, keep_keys=self._options.keep_keys)
        tables = {table: "empty" if table in empty else rule for table, rule in rules.tables.items()}
        missing = [path for path in rules.missing if path.rpartition(".")[0] not in empty]
        impersonal = [place for place in rules.impersonal if place[0] not in empty]
        return DatabaseRules(tables=tables, missing=missing, impersonal=impersonal)

    def _require_names(self, app: App) -> None:
        names = {name for database in self._private.urls for name in app.reader(database).tables()}
        columns = {
            f"{name}.{column}"
            for database in self._private.urls
            for name, table in app.reader(database).tables().items()
            for column in table.columns
        }
        for option, values, known in (
            ("--keep", self._options.keep, columns),
            ("--keep-keys", self._options.keep_keys, columns),
            ("--empty", self._options.empty, names),
        ):
            if unknown := sorted(set(values) - known):
                raise UsageError(detail=f"{option} {unknown[0]}: no database of the backup has it")

    def plan(self) -> Plan:
        """Return what happens to each table; only the destination is not touched."""
        left_out = self._count_left_out()
        for member in self._members:
            for name, rule in self._rules[member.database].tables.items():
                if rule == "empty":
                    left_out[f"{member.database}.{name}"] = member.rows.get(name, 0)
        # rules of values may omit further rows
        restore = self._restore.plan(left_out, limit="up to ")
        steps = [*self._describe_samples()]
        steps += [f"{path}: {text}" for path, text in self._describe_tables().items()]
        steps += self._describe_omitted()
        steps.append("search the originals in the bytes of the result; a hit ends the command here")
        return Plan(
            title=f"Anonymised copy of {self._source.label}",
            target=self.target,
            steps=[*steps, *restore.steps],
            rows=restore.rows,
            destructive=restore.destructive,
        )

    def apply(self, confirmed: str | None = None) -> AnonymisedCopy:
        """Create the copies; a destination is written when all of them are proven.

        Raises:
            CopyConstraintError: pseudonyms violate a constraint; nothing was copied.
            CopyLeakError: the result contains originals; nothing was copied.
            And as ``plan`` and ``CopyRestore.apply``.
        """
        start = time.monotonic()
        self._require_confirmed(confirmed)
        rules = self._rules
        hashes = self._create_hashes()
        progress.start_stage("rewriting")
        originals = {name: self._rewrite(name, rules[name], hashes.get(name, {})) for name in rules}
        dump = self._dump()
        progress.start_stage("searching")
        with self._measure_proof():
            proofs = [self._prove(dump, name, rules[name], originals[name]) for name in rules]
        copied = self._load(dump)
        uses_password = any(hashes.values())
        result = AnonymisedCopy(
            backup=self._source.manifest.id,
            databases=copied.databases,
            proofs=proofs,
            tables=self._describe_tables(),
            password=self._password.reveal() if uses_password and not self._options.password else None,
            key=str(self._options.key) if self._options.key else None,
            duration=round(time.monotonic() - start, 3),
            proof_seconds=round(self._proof_seconds, 3),
            command=copied.command,
            remarks=[*self._remarks, *copied.remarks, *_describe_copied(proofs)],
        )
        for database in copied.databases:
            self._write_record(database, result)
        return result

    def _describe_tables(self) -> Mapping[str, str]:
        """Return what happens to each table, by ``database.table``."""
        return {
            f"{name}.{table}": self._describe_table(name, table, rule)
            for name, rules in self._rules.items()
            for table, rule in rules.tables.items()
        }

    def _describe_table(self, name: str, table: str, rule: TableRule) -> str:
        if table in self._indexes[name]:
            return "an index, built again"
        if rule == "empty":
            return "its rows are not copied"
        return ", ".join(map(_describe_rule, rule.items())) or "copied"

    def _create_hashes(self) -> Mapping[str, Mapping[tuple[str, str], str]]:
        """Return the values of columns with passwords, by database."""
        with self._private.open_app() as app:
            try:
                database = users_database(app)
                if (
                    database not in self._private.urls
                    or app.core.users is None
                    or app.core.users.password is None
                ):
                    return {}
                live = open_users(app).live
                hashed = hash_password(app, self._password)
            except FeatureMissingError:
                return {}
            except DbctlError as error:
                self._remarks.append(f"no user of the copy can sign in with a password: {error}")
                return {}
            # accounts of another kind in the same app have passwords of the same format
            others = dict.fromkeys(_list_passwords(self._rules[database].tables), hashed)
            own = {(live.name, column): value for column, value in Passwords(app, live).split(hashed).items()}
            return {database: {**others, **own}}

    def _rewrite(self, name: str, rules: DatabaseRules, hashes: Mapping[tuple[str, str], str]) -> Originals:
        with self._private.open_writer(name) as (writer, rewriter):
            with self._measure_proof():
                originals = collect_originals(writer, rules, rewriter)
            with rewriter.without_triggers():
                self._remove_second_factors(name, writer)
                if self._sampling:  # the originals of rows that are left out are searched as well
                    self._sampling.apply(name, writer)
                remarks = rewriter.rewrite(rules.tables, Pseudonyms(self._key.secret, hashes))
            self._remarks += [f"{name}: {remark}" for remark in remarks]
            self._complete(name, writer, rewriter)
        return originals

    def _remove_second_factors(self, name: str, writer: Writable) -> None:
        """Let users sign in without a second factor: its secret is not copied, but a flag of the user may request it."""
        with self._private.open_app() as app:
            if app.core.users and users_database(app) == name:
                remove_all(app, writer)

    @contextmanager
    def _measure_proof(self) -> Iterator[None]:
        start = time.monotonic()
        yield
        self._proof_seconds += time.monotonic() - start

    def _prove(self, dump: BackupSource, name: str, rules: DatabaseRules, originals: Originals) -> Proof:
        member = next(member for member in dump.manifest.members if member.database == name)
        target = self._app.target(name)
        with dump.open_reader() as reader:
            path = reader.decode(dump.manifest, member, target)
            size = path.stat().st_size
            with self._private.open_writer(name) as (writer, rewriter):
                long = [value for value in originals.columns if len(value) >= rewriter.shortest]
                hits = Scanner(long).find(read_file(path))
                hits |= Scanner(originals.columns).find(rewriter.read_compressed())
        copied, copied_in, undecided = set[bytes](), Counter[str](), Counter[str]()
        if hits:
            with self._private.open_writer(name) as (writer, rewriter):
                copied = Scanner(hits).find([rewriter.encode(CONSTANTS), *rewriter.read_schema()])
                copied_in[SCHEMA] = len(copied)
                for column, places in find_copied(writer, rules, hits, rewriter):
                    copied_in[column], undecided[column] = len(places.copied), len(places.undecided)
                    copied |= places.copied
        if columns := [*+undecided]:
            raise CopyKeysError(
                target=target,
                columns=", ".join(f"{column} ({undecided[column]})" for column in columns),
                column=columns[0],
            )
        if leaked := hits - copied:
            raise CopyLeakError(
                target=target,
                count=len(leaked),
                searched=len(originals.columns),
                places=count_by_column(originals, leaked),
            )
        return Proof(
            database=name,
            searched=len(originals.columns) - len(copied),
            is_sample=originals.is_sample,
            too_short=originals.too_short,
            copied=len(copied),
            copied_in=dict((+copied_in).most_common()),
            bytes=size,
            hits=0,
        )

    def _write_record(self, database: CopiedDatabase, result: AnonymisedCopy) -> None:
        """Write the record of the proof next to the copy of a file or folder."""
        if path := locate_record(parse_url(database.url)):
            proof = next(proof for proof in result.proofs if proof.database == database.database)
            record = {
                "app": self.app,
                "backup": result.backup,
                "database": database.database,
                "proof": proof,
                "tables": {
                    name.removeprefix(f"{database.database}."): text
                    for name, text in result.tables.items()
                    if name.startswith(f"{database.database}.")
                },
            }
            with write_atomically(path, replace=True) as file:
                file.write(msgspec.json.format(msgspec.json.encode(record)).decode() + "\n")


def _list_passwords(tables: Mapping[str, TableRule]) -> Iterator[tuple[str, str]]:
    """Yield the table and column of each rule of passwords."""
    for table, rules in tables.items():
        if rules != "empty":
            yield from ((table, column) for column, rule in rules.items() if rule.kind == "password")


def _describe_rule(item: tuple[str, ColumnRule]) -> str:
    column, rule = item
    if rule.kind == "null" and not rule.by:
        return f"{column} removed"
    kinds = list(dict.fromkeys(entry.kind for entry in rule.values.values())) if rule.by else []
    return f"{column} as {' or '.join(dict.fromkeys([*kinds, rule.kind]))}"


def _describe_copied(proofs: Sequence[Proof]) -> Iterator[str]:
    """Yield which copied columns contain originals of others; the first of them may need a rule."""
    for proof in proofs:
        if proof.copied:
            columns = [f"{column} ({count})" for column, count in proof.copied_in.items()]
            others = f" and {len(columns) - NAMED} more columns" if len(columns) > NAMED else ""
            originals = format_count(proof.copied, "original")
            yield f"{proof.database}: {originals} also in what is copied: {', '.join(columns[:NAMED])}{others}"
