"""The schema of the destination: from the app's migrations for its engine, or derived from the source."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Literal, cast

import msgspec
from msgspec import structs

from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.base import DbctlError
from dbctl.errors.migrations import MigrationsMissingError
from dbctl.errors.usage import FeatureMissingError
from dbctl.extensions.transfer.copy import Destination, TransferState, has_state, load_state
from dbctl.extensions.transfer.endpoints import Endpoints
from dbctl.extensions.transfer.errors import TransferSchemaError, TransferSourcePendingError
from dbctl.extensions.transfer.portable.contract import (
    Omission,
    PortableSchema,
    PortableSchemas,
    require,
    require_scripts,
)
from dbctl.extensions.transfer.portable.native import NativeSchemas
from dbctl.extensions.transfer.tables import Exclusions, list_exclusions, select_tables
from dbctl.model import Struct
from dbctl.profiles.model.profile import Profile
from dbctl.services.migrations.ledger.ledger import MigrationTarget
from dbctl.services.migrations.ledger.state import read_state
from dbctl.services.migrations.status import create_shipped_target, find_targets

#: How the destination gets its schema.
SchemaOrigin = Literal["migrations", "derived", "native", "destination"]
#: Listed in a plan whose objects could not be created in a scratch database.
UNTRIED = Omission(
    kind="trial",
    name="of the schema",
    reason="the user may not create a scratch database, so the statements were not tried",
)


class TransferSchema(Struct, frozen=True, kw_only=True):
    """How a destination gets its schema."""

    origin: SchemaOrigin
    source: PortableSchema  #: only with the tables to copy, in their order
    migrations: MigrationTarget | None = None
    statements: Sequence[str] = ()  #: derived: those that create the tables
    later_statements: Sequence[str] = ()  #: derived: those that run after the copy
    omissions: Sequence[Omission] = ()  #: what the destination will lack
    #: other tables of the source, and the ledgers, which a derived schema may have
    exclusions: Exclusions = Exclusions(ledgers=(), patterns=())


def fingerprint_objects(schema: PortableSchema, excluded: Collection[str]) -> Mapping[str, str]:
    """Return values by kind and name of an object that change with it; without some tables."""
    result = {f"view {view.name}": fingerprint(view) for view in schema.views}
    for table in schema.tables:
        if table.name in excluded:
            continue
        others = structs.replace(table, columns=(), indexes=(), references=())
        result[f"table {table.name}"] = fingerprint(others)
        for column in table.columns:  # its type may depend on its values
            parts = (
                column.declared,
                column.is_nullable,
                column.default,
                column.generated,
                column.is_automatic,
            )
            result[f"column {table.name}.{column.name}"] = fingerprint(parts)
        for index in table.indexes:
            name = index.name or ", ".join(term.column or term.expression for term in index.terms)
            result[f"index {name} of {table.name}"] = fingerprint(index)
        for reference in table.references:
            result[f"foreign key {', '.join(reference.columns)} of {table.name}"] = fingerprint(reference)
    return result


def fingerprint(value: object) -> str:
    """Return a value that changes with a part of a schema."""
    return blake2b(msgspec.json.encode(value), digest_size=8).hexdigest()


def read_schema(db: Readable) -> PortableSchema:
    """Return the whole live schema; raises ``NotSupportedError`` if the engine cannot describe it."""
    return require(db, PortableSchemas).read_portable()


def is_native(endpoints: Endpoints, source: Readable, destination: Readable, options: SchemaOptions) -> bool:
    """Whether the definitions of the source are copied."""
    native = source.extension_part(NativeSchemas)
    is_same = endpoints.source_url.engine == endpoints.destination_url.engine
    return bool(native and is_same and not options.migrations and native.describes_for(destination))


def select_schema(
    endpoints: Endpoints, source: Readable, current: Readable, options: SchemaOptions
) -> TransferSchema:
    """Decide how the destination gets its schema; the statements of a derived one are those of its engine.

    ``source`` is in a snapshot; ``current`` is the destination.

    Raises:
        TransferSourcePendingError: the source lacks migrations that the destination would have.
        TransferOtherError: the destination is that of another source.
    """
    exclusions = list_exclusions(endpoints.app, endpoints.database, source)
    schema, target = read_schema(source), None
    origin: SchemaOrigin = "derived"
    if _has_other_schema(endpoints, current):
        origin = "destination"
    elif not options.is_derived and (target := _find_migrations(endpoints, source, options)):
        origin = "migrations"
    copied = exclusions
    if origin == "derived" and options.copies_ledgers:  # the app's own runner has to find what it applied
        copied = structs.replace(exclusions, ledgers=())
    return TransferSchema(
        origin=origin,
        source=structs.replace(schema, tables=select_tables(schema, copied)),
        migrations=target,
        exclusions=exclusions,
    )


def _has_other_schema(endpoints: Endpoints, db: Readable) -> bool:
    """Whether the destination has a schema that no transfer created; raises as ``select_schema``."""
    if has_state(db):
        return load_state(cast("Writable", db), endpoints.identity).is_adopted  # it is only read
    return bool(db.tables())


class SchemaOptions(Struct, frozen=True, kw_only=True):
    """Options that decide how the destination gets its schema."""

    is_derived: bool = False  #: derive it, although the profile has migrations
    copies_ledgers: bool = True  #: a derived schema contains the ledgers of migrations
    migrations: Path | None = None  #: the folder of the migrations for the destination
    variant: str = ""


def _find_migrations(
    endpoints: Endpoints, source: Readable, options: SchemaOptions
) -> MigrationTarget | None:
    """Return the migrations for the destination, of the variant that the source has; None if there are none."""
    app, destination, database = endpoints.app, endpoints.destination, endpoints.database
    engine = destination.url(database).engine
    if options.migrations:
        (target,) = find_targets(destination, database, options.migrations, may_connect=False)
        return target
    section = app.database(database)
    if section.migrations is None or (section.engines and engine not in section.engines):
        return None
    try:
        (source_target,) = find_targets(app, database)
        state = read_state(source_target, source)
        if pending := state.names_in("pending", "failed", "out-of-order"):
            raise TransferSourcePendingError(target=source.target, names=", ".join(pending))
        profile: Profile = app.profile
        variant = options.variant or state.target.variant
        return create_shipped_target(profile, database, destination.name, engine, variant=variant)
    except (FeatureMissingError, MigrationsMissingError):
        return None


def refuse_losses(omissions: Sequence[Omission], target: str, *, or_else: str = "") -> None:
    """Refuse to leave out rows.

    Raises:
        TransferSchemaError: a destination without these parts would lack some.
    """
    for omission in omissions:
        if omission.is_blocking:
            missing = f"{omission.kind} {omission.name} ({omission.reason})"
            error = TransferSchemaError(target=target, missing=missing)
            error.hint = f"No row was copied. Change this part of the source{or_else}."
            raise error


def detach(destination: Destination, state: TransferState, *, indexes: bool) -> None:
    """Drop triggers and foreign keys, and with ``indexes`` also indexes, and record how they are created again.

    It runs in a transaction of ``ScriptRunner``. On a server without transactions for schemas, a statement is recorded
    before its object is dropped.
    """
    scripts = require_scripts(destination.db)
    for drop, create in destination.sink.list_attachments(indexes=indexes):
        if list(create) not in map(list, state.attachments.values()):
            state.add_attachments([create])
        if drop:
            scripts.run_statement(drop)


def attach(destination: Destination, state: TransferState) -> None:
    """Create again what ``detach`` dropped, and what the schema contains after its rows.

    Raises:
        ConstraintError: rows break a constraint.
    """
    db = destination.db
    scripts = require_scripts(db)
    if scripts.transactional_ddl:
        with scripts.schema_transaction():
            destination.create([sql for group in state.attachments.values() for sql in group])
            for name in list(state.attachments):
                state.remove_attachment(name)
        return
    for name, group in list(state.attachments.items()):
        try:
            with scripts.schema_transaction():
                destination.create(group)
        except DbctlError as error:  # it may have run before the process was killed
            if not destination.sink.is_duplicate_object(error):
                raise
        with db.transaction():
            state.remove_attachment(name)
