"""``dbctl data``: list, edit, query, export, and import rows of any table.

Over 460 lines: a group of commands is one module, and these commands have the most options.
"""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dbctl.cli._support.emit import PasswordSource, emit, note, read_password, run_change, show_progress, warn
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import argument, flag, option, parse_positive
from dbctl.cli._support.parameters import (
    FILTER_ZONE,
    DryRun,
    Limit,
    Offset,
    Sort,
    parse_key_values,
    period_option,
    read_file,
    requested_page,
)
from dbctl.cli._support.session import Session
from dbctl.errors.connection import ConstraintError, report_file_errors
from dbctl.errors.databases import AlreadyExistsError
from dbctl.errors.usage import UsageError
from dbctl.files import atomic
from dbctl.model import Page
from dbctl.profiles.codecs import Encoding
from dbctl.render import result
from dbctl.render.streams import Format, write_bytes
from dbctl.services.data import query as queries
from dbctl.services.data.csv_jsonl import Form
from dbctl.spec import EVERYWHERE, Example, Fleet, Write

if TYPE_CHECKING:
    from dbctl.services.data.add import RowAddResult
    from dbctl.services.data.content import ContentWriteResult
    from dbctl.services.data.delete import RowDeleteResult, RowsDeleteResult
    from dbctl.services.data.edit import RowChangeResult, RowsChangeResult
    from dbctl.services.data.export import ExportResult
    from dbctl.services.data.query import QueryResult
    from dbctl.services.data.row_import import ImportResult
    from dbctl.services.data.table import Filters


GROUP = Group(
    "data", section="Change", position=5, help="Rows of any table: list, edit, query, export, import."
)

#: Formats that are written row by row, so that results of any size fit in memory.
STREAMED = frozenset({Format.JSONL, Format.CSV, Format.TSV})
CHUNK_BYTES = 1 << 20  #: size of one read from standard input
DEFAULT_LIMIT = 1000  #: rows of a result that is built in memory

Table: TypeAlias = Annotated[str, argument("TABLE", "Table, or a view for reading.")]
Key: TypeAlias = Annotated[
    list[str], argument("KEY...", "Primary key, one argument per key column in the order of the table.")
]
Secrets: TypeAlias = Annotated[bool, flag("--secrets", "Show hashes, tokens and keys instead of ***.")]
Parameters: TypeAlias = Annotated[
    list[str] | None,
    option("--param", "NAME=VALUE", "Value of the parameter :NAME of the statement; repeatable."),
]
Filter: TypeAlias = Annotated[
    list[str] | None,
    option(
        "--filter",
        "COLUMN=VALUE",
        f"Select rows by a condition; also != < <= > >= and : (contains). Repeatable; all conditions must hold. {FILTER_ZONE}",
    ),
]
Null: TypeAlias = Annotated[
    list[str] | None, option("--null", "COLUMN", "Set this column to NULL; repeatable.")
]
FormOption: TypeAlias = Annotated[
    Form | None, typer.Option("--format", help="csv or jsonl; default: by the suffix of the file.")
]


FilterNull: TypeAlias = Annotated[
    list[str] | None, option("--filter-null", "COLUMN", "Select rows in which this column is NULL.")
]
FilterNotNull: TypeAlias = Annotated[
    list[str] | None, option("--filter-not-null", "COLUMN", "Select rows in which this column is not NULL.")
]
MatchLimit: TypeAlias = Annotated[
    int, option("--limit", "N", "With a filter: refuse if more than N rows match.", parse_positive)
]


@Example("data rows users --filter role_id=2 --limit 10")
@Example("data rows users --sort -created_at --columns id,username -o csv")
@GROUP.command("rows", answers=lambda: (Page[dict[str, Any]],))
def rows(
    session: Session,
    table: Table,
    filters: Filter = None,
    null: Annotated[
        list[str] | None, option("--null", "COLUMN", "Select rows in which this column is NULL.")
    ] = None,
    not_null: Annotated[
        list[str] | None, option("--not-null", "COLUMN", "Select rows in which this column is not NULL.")
    ] = None,
    after: Annotated[
        list[str] | None,
        option(
            "--after",
            "KEY",
            "List rows after this primary key, which need not exist; repeat for each key column.",
        ),
    ] = None,
    secrets: Secrets = False,
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List rows, ordered by primary key or by --sort."""
    row_query = queries.RowQuery(
        filters=_filters(filters, null, not_null),
        after=after or (),
        columns=session.output_options.columns,
        secrets=secrets,
    )
    with session.open_app() as app:
        page = queries.list_rows(app, table, row_query, requested_page(limit, offset, sort))
        return emit(session, page, app=app)


@Example("data show {table} {row}", on=EVERYWHERE)
@Example("data show {table} {row} -o json")
@GROUP.command("show", answers=lambda: (dict[str, Any], ContentWriteResult))
def show_(
    session: Session,
    table: Table,
    key: Key,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FILE",
            help="Write the content of one column to a new file; - is standard output. --columns selects the column, unless"
            " the profile does.",
        ),
    ] = "",
    encoding: Annotated[
        Encoding | None,
        typer.Option(
            "--encoding", help="With --to: encoding of the stored file, instead of the one in the profile."
        ),
    ] = None,
    secrets: Secrets = False,
) -> int:
    """Show one row, or write the file that one of its columns stores."""
    if encoding and not to:
        raise UsageError(detail="--encoding requires --to FILE")
    columns = session.output_options.columns
    with session.open_app() as app:
        if not to:
            row = queries.show_row(app, table, key, columns=columns, secrets=secrets)
            return emit(session, row, app=app, columns_apply=False)
        from dbctl.services.data.content import read_content

        content = read_content(app, table, key, columns=columns, encoding=encoding, secrets=secrets)
        with _open_output(to) as write:
            write(content.data)
        for message in content.remarks:
            warn(session, message)
        return 0 if to == "-" else emit(session, content.create_result(to), app=app, columns_apply=False)


@Example("data set {table} {row} {change} --dry-run", on="flashpoint-web")
@Example("data set notes --filter status=draft status=archived --yes")
@GROUP.command(
    "set",
    answers=lambda: (RowChangeResult, RowsChangeResult),
    writes=Write(source="input", facts=("audit",), undo=True),
)
def set_(
    session: Session,
    table: Table,
    arguments: Annotated[
        list[str] | None,
        argument(
            "[KEY]... COLUMN=VALUE...",
            "Primary key, one argument per key column in the order of the table, unless --filter is passed; then the new values.",
        ),
    ] = None,
    null: Null = None,
    secret_column: Annotated[
        str,
        option(
            "--secret",
            "COLUMN",
            "Read the new value of this secret column from the first line of standard input, or prompt for it.",
        ),
    ] = "",
    filters: Filter = None,
    filter_null: FilterNull = None,
    filter_not_null: FilterNotNull = None,
    limit: MatchLimit = 1000,
    any_state: Annotated[
        bool, flag("--any-state", "Allow a state that does not follow the present one; one row only.")
    ] = False,
    dry_run: DryRun = False,
) -> int:
    """Change columns of one row, or of all rows that match a filter; types and the app's rules apply."""
    from dbctl.services.data.edit import set_row, set_rows
    from dbctl.services.data.table import Filters

    arguments = arguments or []
    selection = _filters(filters, filter_null, filter_not_null)
    with session.open_app() as app:
        if selection != Filters():
            if secret_column:
                raise UsageError(detail="--secret changes one row: pass its key instead of filters")
            if any_state:
                raise UsageError(detail="--any-state changes one row: pass its key instead of filters")
            values = parse_key_values(arguments, "new values:")
            operation = set_rows(app, table, selection, values, null or (), limit=limit)
            return run_change(session, operation, dry_run=dry_run)
        size = queries.count_key_columns(app, table)
        if len(arguments) <= size and not (null or secret_column):
            raise UsageError(detail="pass the key of a row, or --filter, and then COLUMN=VALUE")
        key, values = arguments[:size], parse_key_values(arguments[size:], "new values:")
        source = PasswordSource(stdin=not sys.stdin.isatty())
        secrets = {secret_column: read_password(session, source)} if secret_column else {}
        change = set_row(app, table, key, values, null or (), secrets=secrets, any_state=any_state)
        return run_change(session, change, dry_run=dry_run)


@Example("data add notes title='First note' --dry-run")
@Example("data add notes title='Second note' --null body")
@GROUP.command(
    "add",
    answers=lambda: (RowAddResult,),
    writes=Write(source="input", facts=("audit",), undo=True, may_destroy=False),
)
def add(
    session: Session,
    table: Table,
    arguments: Annotated[
        list[str] | None,
        argument("[COLUMN=VALUE]...", "Columns of the new row; other columns get their defaults."),
    ] = None,
    null: Null = None,
    dry_run: DryRun = False,
) -> int:
    """Add one row; types and the app's rules apply."""
    from dbctl.services.data.add import add_row

    with session.open_app() as app:
        values = parse_key_values(arguments or [], "new row:")
        return run_change(session, add_row(app, table, values, null or ()), dry_run=dry_run)


@Example("data delete notes 12 --dry-run")
@Example("data delete notes --filter status=draft --limit 100 --dry-run")
@GROUP.command(
    "delete",
    answers=lambda: (RowDeleteResult, RowsDeleteResult),
    writes=Write(source="input", facts=("audit",), undo=True),
)
def delete(
    session: Session,
    table: Table,
    key: Annotated[
        list[str] | None,
        argument(
            "[KEY]...",
            "Primary key, one argument per key column in the order of the table, unless --filter is passed.",
        ),
    ] = None,
    filters: Filter = None,
    filter_null: FilterNull = None,
    filter_not_null: FilterNotNull = None,
    limit: MatchLimit = 1000,
    dry_run: DryRun = False,
) -> int:
    """Delete one row, or all rows that match a filter, with the rows that foreign keys cascade to."""
    from dbctl.services.data.table import Filters

    selection = _filters(filters, filter_null, filter_not_null)
    if bool(key) == (selection != Filters()):
        raise UsageError(detail="pass either the key of one row, or --filter")
    from dbctl.services.data.delete import delete_row, delete_rows

    with session.open_app() as app:
        if key:
            return run_change(session, delete_row(app, table, key), dry_run=dry_run)
        operation = delete_rows(app, table, selection, limit=limit)
        return run_change(session, operation, dry_run=dry_run)


@Example("data query 'select count(*) from {table}'", on="flashpoint-web custom")
@Example("data query 'select email from users where id = :id' --param id=7 -o json")
@GROUP.command("query", answers=lambda: (QueryResult,), fleet=Fleet())
def query(
    session: Session,
    sql: Annotated[str, argument("[SQL]", "Statement that only reads; - reads it from standard input.")] = "",
    file: Annotated[Path | None, option("--file", "FILE", "Read the statement from a file.")] = None,
    parameters: Parameters = None,
    within: Annotated[timedelta, period_option("--within", "60s", "Stop after this time.")] = "60s",  # type: ignore[assignment]
    secrets: Annotated[
        bool, flag("--secrets", "Allow the statement to read hashes, tokens and keys.")
    ] = False,
    limit: Annotated[
        int | None,
        option(
            "--limit",
            "N",
            f"Show at most N rows; default: {DEFAULT_LIMIT} as table or JSON, all as csv, tsv and jsonl.",
            parse_positive,
        ),
    ] = None,
) -> int:
    """Run one SQL statement that only reads; the database itself rejects writes."""
    statement, values = _read_statement(sql, file), parse_key_values(parameters or (), "--param")
    with (
        session.open_app() as app,
        queries.run_query(app, statement, values, within=within, secrets=secrets) as result,
    ):
        if session.options.output in STREAMED:
            limited = result if limit is None else queries.limit_rows(result, limit)
            return _stream_rows(session, limited.columns, limited.batches)
        page = queries.read_first_rows(result, limit or DEFAULT_LIMIT)
        more = f"the first {page.limit} rows; show more with --limit N, or all with -o csv or -o jsonl"
        return emit(session, page, app=app, notes=[more] if page.has_more else ())


@Example("data export {table} rows.csv", on="flashpoint-web custom")
@Example("data export --query 'select id, email from users' emails.jsonl")
@GROUP.command("export", answers=lambda: (ExportResult,))
def export(
    session: Session,
    arguments: Annotated[list[str], argument("[TABLE] FILE", "Table and new file; - is standard output.")],
    statement: Annotated[
        str, option("--query", "SQL", "Export the result of a statement instead of a table.")
    ] = "",
    file_format: FormOption = None,
    parameters: Parameters = None,
    secrets: Annotated[bool, flag("--secrets", "Include columns of hashes, tokens and keys.")] = False,
) -> int:
    """Write all rows of a table to a file without loss: NULL is an empty field, empty text is "", and numbers
    have every digit.
    """
    if len(arguments) != (1 if statement else 2):
        raise UsageError(detail="pass a table and a file, or --query SQL and a file")
    table, file = "" if statement else arguments[0], arguments[-1]
    output = session.output_options
    from dbctl.services.data.export import ExportTarget, export_query, export_table

    with (
        session.open_app() as app,
        _open_output(file) as write,
        show_progress(session, "exporting", unit="rows"),
    ):
        target = ExportTarget(
            write=write,
            file=file,
            form=file_format or _detect_format(file, output.format),
            secrets=secrets,
            excel_safe=output.excel_safe,
        )
        if statement:
            values = parse_key_values(parameters or (), "--param")
            exported = export_query(app, statement, values, target)
        else:
            exported = export_table(app, table, target, columns=output.columns)
    if exported.left_out:
        note(session, f"left out: {', '.join(exported.left_out)}; include them with --secrets")
    return 0 if file == "-" else emit(session, exported, app=app, columns_apply=False)


@Example("data import deliveries deliveries.csv --create --key id --dry-run")
@Example("data import chats-and-messages.jsonl --db chat --yes")
@GROUP.command(
    "import",
    answers=lambda: (ImportResult,),
    writes=Write(source="input", facts=("audit",), undo=True, may_destroy=False),
)
def import_(
    session: Session,
    arguments: Annotated[
        list[str],
        argument(
            "[TABLE] FILE",
            "Table, and CSV with a header or JSON lines, as export writes them; - is standard input.",
        ),
    ],
    file_format: FormOption = None,
    create: Annotated[
        bool,
        flag(
            "--create",
            "Create TABLE, with columns of the types that the whole file has; see the plan with --dry-run.",
        ),
    ] = False,
    key: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="With --create: the primary key; repeat it for several columns."),
    ] = None,
    dry_run: DryRun = False,
) -> int:
    """Add all rows of a file, or none; every invalid line is reported before anything is written.

    Without TABLE, each line is {"table": NAME, "row": {COLUMN: VALUE, ...}}: the rows of all tables are added in one transaction,
    in the order of the references between the tables.
    """
    *tables, name = arguments
    if len(tables) > 1:
        raise UsageError(detail="pass a table and a file, or a file whose lines name their tables")
    if create and not tables:
        raise UsageError(detail="pass the name of the new table before the file")
    if key and not create:
        raise UsageError(detail="--key selects the primary key of a new table; add --create")
    with (
        _open_input(Path(name)) as source,
        session.open_app() as app,
        show_progress(session, "importing", unit="rows"),
    ):
        form = file_format or _detect_format(name)
        if not tables and form is not Form.JSONL:
            raise UsageError(detail="pass a table: only JSON lines (--format jsonl) name their tables")
        from dbctl.services.data.row_import import RowFile, add_refused_lines, import_rows

        file = RowFile(source=source, name=name, form=form, table="".join(tables))
        if create:
            from dbctl.services.data.create_table import CreateTable

            return run_change(session, CreateTable(app, file, key or ()), dry_run=dry_run)
        operation = import_rows(app, file)
        try:
            return run_change(session, operation, dry_run=dry_run)
        except (AlreadyExistsError, ConstraintError) as error:
            add_refused_lines(app, file, error)
            raise


def _filters(conditions: list[str] | None, null: list[str] | None, not_null: list[str] | None) -> "Filters":
    from dbctl.services.data.table import Filters

    return Filters(conditions=conditions or (), null=null or (), not_null=not_null or ())


def _read_statement(sql: str, file: Path | None) -> str:
    if bool(sql) == (file is not None):
        raise UsageError(detail="pass one statement: SQL, - for standard input, or --file FILE")
    if sql and sql != "-":
        return sql
    raw = read_file(file or Path("-"), "statement")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(detail=f"{file or 'standard input'} is not UTF-8") from None


def _detect_format(file: str, output: Format = Format.TABLE) -> Form:
    """Return the format of a file by its suffix; that of standard output by ``-o``."""
    if file == "-" and output not in (Format.TABLE, Format.CSV, Format.JSONL):
        raise UsageError(detail=f"rows are not written as {output}; pass --format csv or --format jsonl")
    if file == "-" and output is Format.JSONL:
        return Form.JSONL
    if file.endswith(".json"):
        detail = (
            f"{file} has the suffix of one JSON value; write one object per line, and pass --format jsonl"
        )
        raise UsageError(detail=detail)
    return Form.JSONL if file.endswith((".jsonl", ".ndjson")) else Form.CSV


def _stream_rows(
    session: Session, columns: Sequence[str], batches: Iterator[Sequence[tuple[object, ...]]]
) -> int:
    has_header = True
    for batch in chain([next(batches, ())], batches):  # a header is printed for no rows
        items = [dict(zip(columns, row, strict=True)) for row in batch]
        page = Page(items=items, total=len(items), column_names=columns)
        output = result.CommandOutput(command=session.words, result=page, has_header=has_header)
        result.show(output, session.output_options)
        has_header = False
    return 0


@contextmanager
def _open_output(file: str) -> Iterator[Callable[[bytes], object]]:
    """Yield a function that writes to a new file, which appears only when complete, or to standard output."""
    if file == "-":
        yield write_bytes
        return
    with atomic.write_atomically(Path(file)) as text:
        yield text.buffer.write  # type: ignore[attr-defined]


@contextmanager
def _open_input(file: Path) -> Iterator[IO[bytes]]:
    """Yield a file that can be read repeatedly; standard input is copied to an unnamed temporary file."""
    with ExitStack() as stack:
        with report_file_errors(file, kind="file"):
            if str(file) == "-":
                seekable: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                seekable.writelines(iter(partial(sys.stdin.buffer.read, CHUNK_BYTES), b""))
            else:
                seekable = stack.enter_context(atomic.open_named(file))
        yield seekable
