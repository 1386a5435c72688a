"""The two databases of a transfer: the database of the app, and the database at another address."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager

from msgspec import structs

from dbctl.config.sections import Selection
from dbctl.engines.contract.database import Readable, Writable
from dbctl.errors.connection import DatabaseMissingError
from dbctl.extensions.transfer.copy import (
    TransferState,
    create_state,
    empty_destination,
    has_state,
    load_state,
)
from dbctl.extensions.transfer.errors import TransferDestinationError, TransferSameError
from dbctl.extensions.transfer.portable.contract import require
from dbctl.extensions.transfer.portable.native import NativeSchemas
from dbctl.model import TimeForm, join_first
from dbctl.services.app.app import App
from dbctl.services.app.session import Session
from dbctl.url import Url, resolve_engine

#: The name of the destination in messages.
DESTINATION = "destination"
#: Tables that an error names.
MAX_NAMES = 3
REMEDY = "Pass an empty database, or one in which the app's own migrations have just created the tables."


class Endpoints:
    """The source, which is only read, and the destination, which has the same profile."""

    def __init__(self, app: App, to: Url, database: str = "") -> None:
        """Set the address of the destination of ``database``, by default the selected or the main one.

        Raises:
            TransferSameError: it is the database of the app.
            NotSupportedError: an engine has no SQL.
        """
        self.app = app
        self.database = database or app.only or app.main_database
        self.source_url = app.url(self.database)
        self.destination_url = resolve_engine(to, app.database(self.database).engines)
        configured = structs.replace(
            app.configured, name=DESTINATION, databases={self.database: self.destination_url}
        )
        session = Session(Selection(configured=configured), timeout=app.timeout, spec=app.spec)
        self.destination = App(session, configured, app.base_profile)
        self.destination.core, self.destination.variant = app.profile, app.variant
        for side in (app, self.destination):
            _ = side.engine(self.database).script_dialect  # engines without SQL refuse
        self.identity = app.restore_target(self.database).identity()
        other = self.destination.restore_target(self.database)
        # the options select the schema of a server
        same_place = (self.source_url.engine, self.source_url.options) == (
            self.destination_url.engine,
            self.destination_url.options,
        )
        if same_place and other.identity() == self.identity:
            raise TransferSameError(url=self.destination_url)

    @property
    def target(self) -> str:
        """``app/database`` of the source."""
        return self.app.target(self.database)

    @property
    def time_form(self) -> TimeForm:
        """How the app writes times where columns have no type for them."""
        return self.app.core.time

    def open_source(self) -> Readable:
        """Return the source, opened read-only."""
        return self.app.reader(self.database)

    def open_destination(self) -> AbstractContextManager[Writable]:
        """Open the destination for writing, locked against other transfers; a missing file is created.

        Raises:
            BusyError: another transfer is running.
        """
        return self.destination.writer(self.database, create=True)

    def open_scratch(self) -> closing[Writable]:
        """Open a private, empty database with the engine of the destination, which is dropped when it is closed.

        Raises:
            PrivilegeMissingError: the user may not create databases on the server.
        """
        engine = self.destination.engine(self.database)
        return closing(engine.open_scratch(self.destination_url, self.destination.target(self.database)))

    def begin_state(
        self,
        db: Writable,
        fingerprints: Mapping[str, str],
        drop_statements: Callable[[], Sequence[str]],
        *,
        is_adopted: bool,
    ) -> TransferState:
        """Return the state of the transfer into ``db``, which is new or was interrupted.

        A transfer of an earlier schema of the source begins again.

        Args:
            db: the destination.
            fingerprints: those of the schema of the source.
            drop_statements: returns the statements that empty the destination.
            is_adopted: the app made the schema of the destination, which remains.

        Raises:
            TransferDestinationError: the destination has tables that no transfer of dbctl created.
            TransferOtherError: it is the destination of another source.
        """
        if has_state(db):
            state = load_state(db, self.identity)
            if state.is_adopted:
                with db.transaction():
                    state.save_fingerprints(fingerprints)
                return state
            if state.phase != "schema" and state.fingerprints == fingerprints:
                return state
            empty_destination(db, drop_statements())
        elif not is_adopted:
            self.require_empty(db)
        return create_state(db, self.identity, fingerprints, is_adopted=is_adopted)

    def require_empty(self, db: Readable) -> None:
        """Refuse a destination with tables, views or other objects.

        Raises:
            TransferDestinationError: it has some.
        """
        if names := sorted({*db.tables(), *require(db, NativeSchemas).list_contents()}):
            raise TransferDestinationError(url=self.destination_url, tables=join_first(names, MAX_NAMES))

    @contextmanager
    def open_destination_for_reading(self) -> Iterator[Readable | None]:
        """Open the destination read-only, or yield None for a missing file, which would be created.

        Raises:
            DatabaseMissingError: it is a database of a server, which dbctl does not create.
        """
        engine, target = self.destination.engine(self.database), self.destination.target(self.database)
        with ExitStack() as stack:
            db = None
            try:
                reader = engine.open_for_reading(self.destination_url, target, timeout=self.app.timeout)
                db = stack.enter_context(closing(reader))
            except DatabaseMissingError:
                if not self.destination_url.is_file:
                    raise
            yield db


def name_options(url: Url) -> str:
    """Return what ``command_text`` of the address of a destination lacks, as the rest of a sentence."""
    shown = {option.partition("=")[0] for option in url.command_text.partition("?")[2].split("&")}
    missing = [name for name in url.option_names if name not in shown]
    return f", with the options of --to: {', '.join(missing)}" if missing else ""
