"""The contract between services and databases: what every engine can do, and what some can do besides."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from dbctl.model import Value

if TYPE_CHECKING:
    from dbctl.engines.contract.effects import Effect
    from dbctl.engines.contract.schema import Schema


class Capability(Enum):
    """What an engine can do beyond the contract; services ask for these, never for an engine's name."""

    DUMP = "copy all that it stores into a file"  #: it is a ``dumps.Dumps``
    ASIDE = "compare rows that lie aside with those of a table, and take them in"  #: its writer is an ``aside.LaysAside``
    ADVISE = "tell what an admin should know of its server"  #: it is a ``server.Advises``
    BLOAT = "tell which room it takes and does not use"  #: it is a ``server.Wastes``
    CSV = "write its rows as CSV itself"  #: it is a ``transfer.WritesCsv``
    CHECK = "tell whether what it stores is sound"  #: it is a ``Checks``
    EXPLAIN = "tell how it would answer"  #: it is an ``Explains``
    FULL_TEXT = "find words through an index"  #: it is a ``fulltext.FullText``; its writer is a ``fulltext.MakesFullText``
    INDEXES = "tell what its indexes are and do"  #: it is a ``server.Indexes``
    LOOK = "find a word in every text"  #: it is a ``looking.LooksThrough``
    MAINTAIN = "be looked after"  #: it is a ``server.Maintains``
    MEASURE = "tell how much room it takes"  #: it is a ``Measures``
    MIGRATE = "run scripts that change the schema"  #: its writer is a ``Migrates``
    SCHEMA = "tell its whole schema"  #: it is a ``Describes``
    SIDECAR = "find text through a file of its own"  #: its reader is a ``sidecar.Sidecars``
    SESSIONS = "tell who is connected, and end what they do"  #: it is a ``server.Sessions``
    SLOW = "tell which statements take long"  #: it is a ``server.Timed``
    STREAM = "give rows out as they come, and take them back"  #: it is a ``transfer.Streams``
    VERSIONS = "go back to what it held, and take that away"  #: it is a ``server.Prunes``
    VECTORS = "find what is near"  #: it is a ``vectors.Vectors``; its writer is a ``vectors.MakesVectors``


class Column(Value, frozen=True, kw_only=True):
    """One column of a live table."""

    name: str
    type: str  #: as declared, upper case; empty where nothing was declared
    nullable: bool
    required: bool  #: not nullable, with no default and no value of its own
    key: bool  #: part of the primary key
    native: str = ""  #: "time", "boolean", "uuid", "enum": what the driver speaks; empty: plain values
    values: Sequence[str] = ()  #: the labels of an enum
    generated: bool = False  #: made of other columns, so that nobody writes it
    clock: bool = (
        False  #: not of a type for times, and its default is the present moment in a form of the database
    )


class Table(Value, frozen=True, kw_only=True):
    """One live table or view."""

    name: str
    columns: Mapping[str, Column]  #: in their declared order
    view: bool = False


class Reference(Value, frozen=True, kw_only=True):
    """A foreign key that points to a table."""

    table: str  #: the table that holds the key
    columns: Sequence[str]
    to: Sequence[str]  #: the columns it points to
    on_delete: Literal["CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION"]


#: ``same`` is equality without regard to case; ``contains`` and ``starts`` disregard case too and take text literally.
#: ``element`` is ``same`` for one of the values that a text parts with semicolons, blanks around them left out.
#: ``in`` takes a sequence and is one parameter. ``=`` and ``!=`` with None ask for NULL. A ``datetime`` beside any
#: comparison makes the engine read the column as a time, whatever form each row stores.
Op: TypeAlias = Literal["=", "!=", "<", "<=", ">", ">=", "in", "same", "contains", "starts", "element"]


class Condition(Value, frozen=True):
    """``column op value``."""

    column: str
    op: Op
    value: object


class Within(Value, frozen=True):
    """Rows whose ``columns`` are among ``to`` of the rows of ``table`` that meet every one of ``where``."""

    columns: Sequence[str]
    table: str
    to: Sequence[str]
    where: Sequence[Where] = ()


class Linked(Value, frozen=True):
    """Rows to which ``op number`` rows of ``table`` point with ``to`` (0 counts: ``Linked(…, "=", 0)``)."""

    column: str
    table: str
    to: str
    op: Literal["=", "<", "<=", ">", ">="]
    number: int


class AnyOf(Value, frozen=True):
    """Rows that meet at least one; no row when there is none."""

    among: Sequence[Where]


class AllOf(Value, frozen=True):
    """Rows that meet every one; every row when there is none."""

    among: Sequence[Where]


class Not(Value, frozen=True):
    """Rows that do not meet it: also those where the answer is unknown because of a NULL."""

    where: Where


class Behind(Value, frozen=True):
    """Rows that ``select`` gives after the one with this primary key, by which it goes; that one may be gone."""

    key: Sequence[str]
    values: Sequence[object]


Where: TypeAlias = Condition | Within | Linked | AnyOf | AllOf | Not | Behind


class Order(Value, frozen=True):
    """One term of an ordering; NULL comes last whichever the direction."""

    columns: Sequence[str]  #: the first one that is neither NULL nor empty counts
    descending: bool = False
    time: bool = False  #: compare as times, whatever form each row stores
    nocase: bool = False
    through: Within | None = (
        None  #: ``columns`` belong to this link's table; its smallest linked value counts
    )
    random: bool = False  #: no column at all: any order, another one each time
    #: of several columns without regard to case: most rows meet the conditions, and the first column holds no capital letters,
    #: so that an engine may read a page through an index of that column
    indexed: bool = False


#: How a time is written where the column has no native type.
TimeForm: TypeAlias = Literal["iso-ms", "sqlite-time", "epoch-ms", "epoch-s"]
#: What becomes of a column where the row is there already.
Merge: TypeAlias = Literal["keep", "add", "replace"]


class Later(Value, frozen=True):
    """In place of a value of ``update``: the time in ``column`` of the same row, whatever its form, moved on."""

    column: str
    by: timedelta
    form: TimeForm  #: how the result is written


class HeldTimes(Value, frozen=True, kw_only=True):
    """The rows whose times have the same form, in one column."""

    form: str  #: a ``TimeForm``, or ``iso-without-z``
    rows: int
    example: object  #: the smallest value
    key: Mapping[str, object]  #: the primary key of the row that holds it; empty where the table has none


@runtime_checkable
class HoldsTimeForms(Protocol):
    """An engine without a type for times, where each row of a column may hold a time in a form of its own."""

    def clocks(self, table: str) -> Sequence[str]:
        """Return the columns whose default is the present moment in universal time, in whatever form."""
        ...

    def count_time_forms(self, table: str, column: str) -> Sequence[HeldTimes]:
        """Return the forms of the times in a column, the most frequent first; what is no time is not counted."""
        ...

    def newest_time_forms(self, table: str, column: str) -> Sequence[str]:
        """Return the forms that the rows which were added last hold; a few rows are read."""
        ...


@runtime_checkable
class RewritesTimes(HoldsTimeForms, Protocol):
    """A writer of such an engine."""

    def rewrite_times(self, table: str, column: str, form: str, convert: Callable[[object], object]) -> int:
        """Write ``convert`` of each time of a column that has another form than ``form``, in a transaction.

        What ``count_time_forms`` does not count stays as it is. Memory does not grow with the table.

        Returns:
            How many rows were written.
        """
        ...


#: Returns values for columns of a new row of a table, none of them among the given ones.
FillRow: TypeAlias = "Callable[[Readable, str, Collection[str]], Mapping[str, object]]"


def fill_nothing(db: Readable, table: str, given: Collection[str]) -> Mapping[str, object]:
    """Leave to the database what a new row does not give."""
    del db, table, given
    return {}


class Explanation(Value, frozen=True, kw_only=True):
    """How an engine would answer a read."""

    sql: str
    parameters: Sequence[object]
    plan: Sequence[str]  #: the engine's own words, indented by depth
    full_scans: Sequence[str]  #: tables that are read whole


class Readable(Protocol):
    """One open database. Not shared between threads. The opener closes it.

    Names of tables and columns are checked against ``tables()`` before they get near SQL; values are always
    parameters. Every method raises ``BusyError``, ``CorruptError``, ``UnreachableError`` or ``QueryFailedError``
    for what its database answers, and ``Interrupted`` when a signal came.
    """

    target: str  #: ``app/database``, for messages
    capabilities: frozenset[Capability]
    natives: frozenset[str]

    def tables(self) -> Mapping[str, Table]:
        """Return the live schema; read once, again after a script ran or the file was replaced."""
        ...

    def references(self, table: str) -> Sequence[Reference]:
        """Return the foreign keys that point to ``table``."""
        ...

    def select(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
        hold: bool = False,
    ) -> list[tuple[object, ...]]:
        """Return rows, by primary key unless told otherwise; for answers that fit in memory.

        Text that is not valid UTF-8 comes with its bytes as lone surrogates (``surrogateescape``).

        Inside a transaction, ``hold`` keeps others from changing these rows until it ends, where the transaction
        itself does not; what a rule is about has to hold still until what it allows is done.

        Raises:
            SchemaLacksError: no such table or column.
        """
        ...

    def count(self, table: str, where: Sequence[Where] = ()) -> int:
        """Return how many rows meet every condition."""
        ...

    def has(self, table: str, where: Sequence[Where] = (), *, within: timedelta) -> bool | None:
        """Return whether any row meets every condition; None where that is not clear in so long.

        One condition alone, that a time lies before a moment, is answered through an index of its column; of times
        that are text of digits it finds those from 2001 to 2033.
        """
        ...

    def tally(self, table: str, column: str, where: Sequence[Where] = ()) -> dict[object, int]:
        """Return how many rows hold each value of ``column``."""
        ...

    def query(self, sql: str, parameters: Mapping[str, object] = {}) -> list[tuple[object, ...]]:
        """Return the rows of one statement of a profile, in portable SQL with ``:name`` parameters.

        A list is one parameter that holds a set (``id in :picked``).
        """
        ...

    def close(self) -> None:
        """Close it; a second time does nothing."""
        ...


class Writable(Readable, Protocol):
    """A database that may be written; nothing is written outside ``transaction``."""

    def transaction(self) -> AbstractContextManager[None]:
        """Begin one, commit at the end, roll back on any exception; nested, it is a savepoint."""
        ...

    def insert(self, table: str, values: Mapping[str, object], *, returning: str | None = None) -> object:
        """Insert one row; return the value that ``returning`` got, or None.

        Raises:
            ConstraintError: the database refuses the row.
        """
        ...

    def insert_many(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> int:
        """Insert rows as they come, in constant memory; return how many."""
        ...

    def update(self, table: str, values: Mapping[str, object], where: Sequence[Where]) -> int:
        """Update rows; return how many were matched, changed or not. A value may be a ``Later``."""
        ...

    def merge(
        self,
        table: str,
        select: str,
        parameters: Mapping[str, object],
        *,
        key: Sequence[str],
        columns: Mapping[str, Merge],
    ) -> int:
        """Insert the rows of ``select``, or bring them into those that have the same ``key`` already.

        Args:
            table: where to; a unique index covers ``key``.
            select: portable SQL of a profile; its columns are those of ``key``, then those of ``columns``.
            parameters: its ``:name`` parameters; a list is one parameter that holds a set (``id in :picked``).
            key: what tells two rows apart.
            columns: what becomes of each other column where the row is there.

        Returns:
            How many rows were inserted or changed.
        """
        ...

    def delete(self, table: str, where: Sequence[Where]) -> int:
        """Delete rows; return how many, without those that foreign keys took along."""
        ...

    def follow_keys(self, table: str) -> None:
        """Let the keys that the database makes for ``table`` go on behind the largest that was inserted with its key."""
        ...

    def lock(self, purpose: str) -> AbstractContextManager[None]:
        """Keep every other dbctl from writing here, also between transactions; it ends with the process.

        Raises:
            BusyError: another dbctl holds it; the message names its pid, host, purpose and start.
        """
        ...


@runtime_checkable
class Explains(Protocol):
    """Capability.EXPLAIN."""

    def explain(
        self,
        table: str,
        columns: Sequence[str],
        where: Sequence[Where] = (),
        *,
        order_by: Sequence[Order] = (),
        limit: int | None = None,
        offset: int = 0,
    ) -> Explanation:
        """Return how ``select`` with the same arguments would be answered, without answering it."""
        ...

    def explain_query(self, sql: str, parameters: Mapping[str, object] = {}) -> Explanation:
        """Return how ``query`` would be answered, as above; a list is one parameter that holds a set, as for ``merge``.

        Raises:
            QueryFailedError: it would be refused, or read a name that is none as something else.
        """
        ...


class Orphans(Value, frozen=True, kw_only=True):
    """Rows of one table whose foreign key points to nothing."""

    table: str
    columns: Sequence[str]
    to: str  #: the table that lacks what they point to
    number: int
    example: str | None  #: what finds one of them; None where a row has no name of its own


class IndexDamage(Value, frozen=True, kw_only=True):
    """An index that is not as its table is."""

    index: str
    twice: bool  #: it holds twice what may be there once, so that it cannot be made anew from its table


class IndexDifference(Value, frozen=True, kw_only=True):
    """A row for which a table and one of its indexes hold different values; nothing shows which of them is damaged."""

    table: str
    row: str  #: what finds the row in the table
    columns: Sequence[str]  #: whose values differ
    in_table: Sequence[object]
    in_index: Sequence[object]


@runtime_checkable
class Checks(Protocol):
    """Capability.CHECK."""

    def damage(self, *, quick: bool = False, table: str = "") -> Sequence[str]:
        """Return what is wrong with how a table, or everything, is stored, in the engine's words.

        Args:
            quick: whether to leave out what takes long: above all, whether indexes and tables agree.
            table: the one that is looked at.
        """
        ...

    def index_damage(self, line: str) -> IndexDamage | None:
        """Return what a line of ``damage`` tells of an index; None where it is about more than an index."""
        ...

    def index_differences(self, index: str, limit: int) -> Sequence[IndexDifference]:
        """Return the first rows whose values an index holds otherwise; none where that cannot be determined."""
        ...

    def orphans(self, table: str = "") -> Sequence[Orphans]:
        """Return the foreign keys of a table, or of all, that point to nothing."""
        ...

    def lost_commits(self) -> int:
        """Return how many committed changes no reader gets to see, because what precedes them is damaged."""
        ...

    def text_indexes(self) -> Sequence[str]:
        """Return the names of indexes for searching text that ``damage`` does not look into."""
        ...

    def text_index_damage(self, name: str) -> str:
        """Return what is wrong with one of them, or nothing; it takes a writer, and what it writes is taken back."""
        ...


class Storage(Value, frozen=True, kw_only=True):
    """How much room a database takes."""

    bytes: int
    tables: int
    page_size: int
    #: What only a file of pages has; None elsewhere.
    page_count: int | None = None
    freelist_pages: int | None = None  #: pages that hold nothing
    wal_bytes: int | None = None  #: changes that stand beside the file, or their room
    wal_pages: int | None = None  #: of these, how many pages are not in the file itself yet
    journal_mode: str | None = None
    shares_memory: bool = False  #: its users share memory, which only those on one machine can


class Measured(Value, frozen=True, kw_only=True):
    """How much one table holds."""

    table: str
    rows: int
    bytes: int | None  #: with its indexes; None where the engine cannot tell
    indexes: Sequence[str]
    estimated: bool = False  #: whether ``rows`` is about so many
    #: What only a server tells; None elsewhere.
    table_bytes: int | None = None
    index_bytes: int | None = None
    toast_bytes: int | None = None  #: long values that are stored beside their rows
    dead_rows: int | None = None  #: rows that nobody can see any more
    inserts: int | None = None  #: since the server counts
    updates: int | None = None
    deletes: int | None = None
    vacuumed_at: datetime | None = None
    analyzed_at: datetime | None = None
    #: What only a table of versions has; None elsewhere.
    fragments: int | None = None  #: parts, each with files of its own
    versions: int | None = None  #: that can be gone back to
    format: str | None = None  #: of its files


@runtime_checkable
class Measures(Protocol):
    """Capability.MEASURE."""

    def storage(self) -> Storage:
        """Return how much room the database takes; moves nothing about in it."""
        ...

    def measured(self, *, exact: bool = True, table: str = "") -> Sequence[Measured]:
        """Return how much each table, or only ``table``, holds; without ``exact``, estimates where counting takes long."""
        ...


@runtime_checkable
class Describes(Protocol):
    """Capability.SCHEMA."""

    def schema(self) -> Schema:
        """Return the whole live schema at one moment, down to what no command changes."""
        ...

    def fingerprint(self) -> str:
        """Return ``schema.fingerprint`` of it: SHA-256, hexadecimal, the same as long as the schema is."""
        ...

    def comments(self, table: str) -> Mapping[str, str]:
        """Return the comments that the schema stores for a table, by column; the table's own under an empty name."""
        ...


class Holder(Value, frozen=True, kw_only=True):
    """A process that has a database open."""

    pid: int
    command: str
    owner: str
    mode: Literal["write", "read", "open"]  #: the lock that it holds now; open: none
    waits_for: Sequence[int] = ()  #: the processes whose locks keep it from going on, where that is known
    locks: Sequence[str] = ()  #: on a server: type and object of each lock, those that it waits for included
    query: str = ""  #: on a server: what it runs, or ran last; shortened, without the values in it
    transaction_seconds: float | None = None  #: how long its transaction lasts


class Housing(Value, frozen=True, kw_only=True):
    """The files in which a database is kept, told without opening it."""

    file: Path  #: the database itself, links followed; it may be missing
    beside: Sequence[Path]  #: further ones that belong to it and are there
    waiting_bytes: int  #: changes that stand beside the file, or their room
    left: bool  #: changes stand there, and no process is seen that has the database open
    settle: Sequence[str]  #: the command that brings what stands beside into the file
    shrink: Sequence[str]  #: the command that gives back the room of pages that hold nothing


class Script(Value, frozen=True, kw_only=True):
    """One way of a migration."""

    statements: Sequence[tuple[int, str]]  #: each with its line
    outside: bool = False  #: they run one by one, outside a transaction


class Hazard(Value, frozen=True):
    """What a statement may do to a database with rows and users."""

    line: int  #: where the statement begins; 0: it is about the script as a whole
    code: str
    message: str


class Language(Hashable, Protocol):
    """How an engine reads a script; needs no connection."""

    def split(self, text: str, *, outside: bool = False) -> Sequence[tuple[int, str]]:
        """Take a script apart: statements in order, each with the line it begins on (from 1).

        Each begins at its first word, so that it is stored without what precedes it. The last one may lack its semicolon.

        Raises:
            ValueError: the text ends inside a statement, a string or a comment, or holds a statement that
                ``Migrates.schema_transaction`` cannot hold, or ``step_by_step`` where the script is to run ``outside``;
                the message says on which line.
        """
        ...

    def effect(self, sql: str) -> Effect:
        """Return what one statement may take away, judged by its words."""
        ...

    def remarks(self, text: str) -> Sequence[tuple[int, str]]:
        """Return the comments that are lines of their own (``-- so``), each with its line (from 1) and without the dashes.

        One inside a string, another comment, brackets, or the body of a trigger or function is none of them.
        """
        ...

    def hazards(self, scripts: Iterable[Script]) -> Iterator[Sequence[Hazard]]:
        """Yield for each script, in the order in which they run, what is hazardous in it.

        What earlier ones make is known to later ones. The codes are those of which services say how grave each is.
        """
        ...


@runtime_checkable
class Migrates(Protocol):
    """Capability.MIGRATE."""

    language: Language
    #: Whether what a ``schema_transaction`` did is gone where it fails. Where not, each of its statements is a change of
    #: its own that stays once it has run; only what follows the last of them is one with the end of the transaction.
    takes_schema_back: bool

    #: How often a ``brief`` transaction is worth beginning where a lock was not to be had.
    lock_tries: int

    def schema_transaction(self, *, brief: bool = False) -> AbstractContextManager[None]:
        """A transaction for statements that change the schema; foreign keys rest meanwhile and are checked at its end.

        Args:
            brief: whether to wait for each lock only so long that those who queue behind are not kept for long.

        Raises:
            ConstraintError: rows would point to nothing that did not before; what can be rolled back was.
        """
        ...

    def step_by_step(self) -> AbstractContextManager[None]:
        """Room for statements outside a transaction: each is a change of its own, which stays once it has run.

        What they set for the session lasts until its end. Between two of them ``transaction`` may be used.
        """
        ...

    def run_statement(self, sql: str) -> None:
        """Run one statement of a script inside ``schema_transaction`` or ``step_by_step``; what would end or escape it is refused."""
        ...

    def drop_statements(self) -> Sequence[str]:
        """Return the statements that drop everything in the database's own schemas, for ``schema_transaction``.

        Raises:
            ConstraintError: something outside of them depends on what would be dropped.
        """
        ...

    def may_have_taken(self, table: str) -> bool:
        """Return whether the rows that ``table`` lacks since this transaction began may be its own doing; careful: mostly true.

        Where a server lets others delete rows meanwhile, it can know that this transaction did not.
        """
        ...

    def left_by(self, sql: str) -> Sequence[str]:
        """Return the statements that clear away what ``sql`` left behind when it failed outside a transaction; mostly none."""
        ...
