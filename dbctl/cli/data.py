"""``dbctl data``: rows of any table, by their primary key."""

# Without postponed annotations: Typer reads them in every run, and text would have to be compiled each time.
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import IO, Annotated, TypeAlias

import typer

from dbctl.cli._support.app import carry_out, contents, opened, pairs, show, span
from dbctl.cli._support.emit import note, read_password, warn
from dbctl.cli._support.options import DryRun, Limit, Offset, Sort, call, command_words, whole, window
from dbctl.errors import FileFailedError, FileMissingError, UsageError
from dbctl.files import atomic
from dbctl.model import Page, Secret
from dbctl.profiles import Encoding
from dbctl.render import Format, result, write_bytes
from dbctl.services.data import Filters, Form, delete_row, export_query, export_table, import_rows, set_row
from dbctl.services.data import query as looks

app = typer.Typer(
    name="data",
    help="Rows of any table: look, mend, ask, export, import.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

#: Forms that are written as the rows come, and so have all of them.
FLOWING = frozenset({Format.JSONL, Format.CSV, Format.TSV})
PIECE = 1 << 20  #: bytes of standard input that are read at a time
SHOWN = 1000  #: rows of an answer that is shown whole

Table: TypeAlias = Annotated[str, typer.Argument(metavar="TABLE", help="A table, or a view to look at.")]
Key: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="KEY...", help="The primary key, a word for each of its columns.")
]
Secrets: TypeAlias = Annotated[
    bool, typer.Option("--secrets", help="Also hashes, tokens and keys, which are *** otherwise.")
]
Parameters: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="What :NAME in the statement stands for; repeatable."),
]
Filter: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        metavar="COLUMN=VALUE",
        help="Only such rows; also != < <= > >= and : (contains). Repeatable: all of them count.",
    ),
]
Null: TypeAlias = Annotated[
    list[str] | None, typer.Option("--null", metavar="COLUMN", help="Make it NULL; repeatable.")
]
FormOption: TypeAlias = Annotated[
    Form | None, typer.Option("--format", help="csv, or jsonl; else as the file's name ends.")
]


def _limit(text: str) -> int:
    return whole(text, 1)


FilterNull: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--filter-null", metavar="COLUMN", help="All rows in which it is NULL."),
]
FilterNotNull: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--filter-not-null", metavar="COLUMN", help="All rows in which it is not."),
]
MatchLimit: TypeAlias = Annotated[
    int,
    typer.Option("--limit", parser=_limit, metavar="N", help="With a filter: refuse where more rows match."),
]


@app.command()
def rows(
    ctx: typer.Context,
    table: Table,
    filters: Filter = None,
    null: Annotated[
        list[str] | None, typer.Option("--null", metavar="COLUMN", help="Only rows in which it is NULL.")
    ] = None,
    not_null: Annotated[
        list[str] | None, typer.Option("--not-null", metavar="COLUMN", help="Only rows in which it is not.")
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after",
            metavar="KEY",
            help="Only rows behind this primary key, whether or not it is there; once for each of its columns.",
        ),
    ] = None,
    secrets: Secrets = False,
    limit: Limit = 50,
    offset: Offset = 0,
    sort: Sort = "",
) -> int:
    """List rows, by primary key unless told otherwise."""
    wanted = looks.Wanted(
        filters=Filters(conditions=filters or (), null=null or (), not_null=not_null or ()),
        after=after or (),
        columns=call(ctx).look.columns,
        secrets=secrets,
    )
    with opened(ctx) as found:
        return show(ctx, found, looks.rows(found, table, wanted, window(limit, offset, sort)))


@app.command("show")
def show_(
    ctx: typer.Context,
    table: Table,
    key: Key,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FILE",
            help="Write the content of one column to a new file; - is standard output. --columns names the column, where the"
            " profile names none for the table.",
        ),
    ] = "",
    encoding: Annotated[
        Encoding | None,
        typer.Option(
            "--encoding", help="With --to: how the column stores the file, in place of what the profile says."
        ),
    ] = None,
    secrets: Secrets = False,
) -> int:
    """Show one row, or write the file that one of its columns holds."""
    if to:
        from dbctl.services.data import read_content

        with opened(ctx) as found:
            content = read_content(
                found, table, key, columns=call(ctx).look.columns, encoding=encoding, secrets=secrets
            )
            with _sink(to) as write:
                write(content.data)
            for remark in content.remarks:
                warn(ctx, remark)
            return 0 if to == "-" else show(ctx, found, content.written(to), picked=False)
    if encoding:
        raise UsageError(detail="--encoding belongs to --to FILE")
    with opened(ctx) as found:
        row = looks.show(found, table, key, columns=call(ctx).look.columns, secrets=secrets)
        return show(ctx, found, row, picked=False)


@app.command()
def describe(ctx: typer.Context, table: Table) -> int:
    """Describe a table: columns, keys, indexes, foreign keys both ways, checks, triggers, comments."""
    from dbctl.services.data import describe_table

    with opened(ctx) as found:
        return show(ctx, found, describe_table(found, table), picked=False)


@app.command("set")
def set_(
    ctx: typer.Context,
    table: Table,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY]... COLUMN=VALUE...",
            help="The primary key, a word for each of its columns, unless --filter is given; then what to set.",
        ),
    ] = None,
    null: Null = None,
    secret: Annotated[
        str,
        typer.Option(
            "--secret",
            metavar="COLUMN",
            help="Read the new value of this column of secrets from the first line of standard input, or ask for it.",
        ),
    ] = "",
    filters: Filter = None,
    filter_null: FilterNull = None,
    filter_not_null: FilterNotNull = None,
    limit: MatchLimit = 1000,
    dry_run: DryRun = False,
) -> int:
    """Change columns of one row, or of all rows that a filter matches, by the column's type and the app's rules."""
    words = words or []
    selection = Filters(conditions=filters or (), null=filter_null or (), not_null=filter_not_null or ())
    with opened(ctx) as found:
        if selection != Filters():
            from dbctl.services.data import set_rows

            if secret:
                raise UsageError(detail="--secret changes one row: name it by its key, without filters")
            given = pairs(words, "what to set,")
            return carry_out(ctx, set_rows(found, table, selection, given, null or (), limit=limit))
        size = looks.key_size(found, table)
        if len(words) <= size and not (null or secret):
            raise UsageError(
                detail="name the row by its key, or rows by --filter; then what to set: COLUMN=VALUE"
            )
        key, given = words[:size], pairs(words[size:], "what to set,")
        secrets = {secret: _secret(ctx)} if secret else {}
        return carry_out(ctx, set_row(found, table, key, given, null or (), secrets=secrets))


def _secret(ctx: typer.Context) -> Secret:
    return read_password(ctx, stdin=not sys.stdin.isatty(), file=None, generate=False)[0]


@app.command()
def add(
    ctx: typer.Context,
    table: Table,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[COLUMN=VALUE]...", help="The columns of the new row; the others get their defaults."
        ),
    ] = None,
    null: Null = None,
    dry_run: DryRun = False,
) -> int:
    """Add one row, each value by the column's type and the app's rules."""
    from dbctl.services.data import add_row

    with opened(ctx) as found:
        given = pairs(words or [], "the new row,")
        return carry_out(ctx, add_row(found, table, given, null or ()))


@app.command()
def delete(
    ctx: typer.Context,
    table: Table,
    key: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY]...",
            help="The primary key, a word for each of its columns, unless --filter is given.",
        ),
    ] = None,
    filters: Filter = None,
    filter_null: FilterNull = None,
    filter_not_null: FilterNotNull = None,
    limit: MatchLimit = 1000,
    dry_run: DryRun = False,
) -> int:
    """Delete one row, or all rows that a filter matches, with what the live foreign keys take along."""
    selection = Filters(conditions=filters or (), null=filter_null or (), not_null=filter_not_null or ())
    if bool(key) == (selection != Filters()):
        raise UsageError(detail="name either one row by its key, or rows by --filter")
    with opened(ctx) as found:
        if key:
            return carry_out(ctx, delete_row(found, table, key))
        from dbctl.services.data import delete_rows

        return carry_out(ctx, delete_rows(found, table, selection, limit=limit))


@app.command()
def query(
    ctx: typer.Context,
    sql: Annotated[
        str, typer.Argument(metavar="[SQL]", help="One statement that reads; - reads it from standard input.")
    ] = "",
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Read the statement from a file.")
    ] = None,
    given: Parameters = None,
    within: Annotated[
        timedelta, typer.Option("--within", parser=span, metavar="60s", help="How long it may take.")
    ] = "60s",  # type: ignore[assignment]
    secrets: Annotated[
        bool, typer.Option("--secrets", help="Let it read hashes, tokens and keys; else that is refused.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            parser=_limit,
            metavar="N",
            help=f"At most so many rows; {SHOWN} of a table or JSON, all of csv, tsv and jsonl.",
        ),
    ] = None,
) -> int:
    """Run one statement of SQL that only reads: the database itself keeps it from writing."""
    statement, values = _statement(sql, file), pairs(given or (), "--param")
    with opened(ctx) as found, looks.asked(found, statement, values, within=within, secrets=secrets) as asked:
        if call(ctx).output in FLOWING:
            told = asked if limit is None else looks.cut(asked, limit)
            return _flow(ctx, told.columns, told.batches)
        first = looks.first_of(asked, limit or SHOWN)
        if first.has_more:
            note(ctx, f"the first {first.limit} rows; -o csv and -o jsonl give all of them, --limit N more")
        return show(ctx, found, first)


@app.command()
def export(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(metavar="[TABLE] FILE", help="A table, and a new file for it; - is standard output."),
    ],
    sql: Annotated[
        str, typer.Option("--query", metavar="SQL", help="Instead of a table: what a statement answers.")
    ] = "",
    form: FormOption = None,
    given: Parameters = None,
    secrets: Annotated[
        bool,
        typer.Option(
            "--secrets", help="Also columns of hashes, tokens and keys, which are left out otherwise."
        ),
    ] = False,
) -> int:
    """Write all rows of a table to a file, exactly: NULL is nothing, an empty text is "", every digit is there."""
    if len(words) != (1 if sql else 2):
        raise UsageError(detail="name a table and a file, or --query SQL and a file")
    table, file = "" if sql else words[0], words[-1]
    form, look = form or _form(file), call(ctx).look
    with opened(ctx) as found, _sink(file) as write:
        if sql:
            done = export_query(
                found,
                sql,
                pairs(given or (), "--param"),
                write,
                file=file,
                form=form,
                secrets=secrets,
                excel_safe=look.excel_safe,
            )
        else:
            done = export_table(
                found,
                table,
                write,
                file=file,
                form=form,
                columns=look.columns,
                secrets=secrets,
                excel_safe=look.excel_safe,
            )
    if done.left_out:
        note(ctx, f"left out: {', '.join(done.left_out)}; --secrets takes them along")
    return 0 if file == "-" else show(ctx, found, done, picked=False)


@app.command("import")
def import_(
    ctx: typer.Context,
    table: Table,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What export writes: csv with a heading, or jsonl; - reads it from standard input.",
        ),
    ],
    form: FormOption = None,
    dry_run: DryRun = False,
) -> int:
    """Add every row of a file, or none; all lines that are wrong are told before anything is written."""
    with _source(file) as source, opened(ctx) as found:
        return carry_out(
            ctx,
            import_rows(found, table, source, file=str(file), form=form or _form(str(file))),
        )


def _statement(sql: str, file: Path | None) -> str:
    if bool(sql) == (file is not None):
        raise UsageError(detail="give one statement: SQL, - for standard input, or --file FILE")
    if sql and sql != "-":
        return sql
    raw = contents(file or Path("-"), "statement")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(detail=f"{file or 'standard input'} is not UTF-8") from None


def _form(file: str) -> Form:
    return Form.JSONL if file.endswith((".jsonl", ".ndjson")) else Form.CSV


def _flow(ctx: typer.Context, columns: Sequence[str], batches: Iterator[Sequence[tuple[object, ...]]]) -> int:
    headed = True
    for batch in looks.with_one(batches):
        items = [dict(zip(columns, row, strict=True)) for row in batch]
        page = Page(items=items, total=len(items), names=columns)
        told = result.Answer(command=command_words(ctx), result=page, headed=headed)
        result.show(told, call(ctx).look)
        headed = False
    return 0


@contextmanager
def _sink(file: str) -> Iterator[Callable[[bytes], object]]:
    """Give what writes an export: whole into a new file, or on to standard output."""
    if file == "-":
        yield write_bytes
        return
    with atomic.written_whole(Path(file)) as text:
        yield text.buffer.write  # type: ignore[attr-defined]


@contextmanager
def _source(file: Path) -> Iterator[IO[bytes]]:
    """Give a file that can be read more than once; standard input is kept in one without a name."""
    with ExitStack() as stack:
        try:
            if str(file) == "-":
                kept: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
                kept.writelines(iter(partial(sys.stdin.buffer.read, PIECE), b""))
            else:
                kept = stack.enter_context(atomic.named(file))
        except FileNotFoundError as error:
            raise FileMissingError(what="file", path=file) from error
        except OSError as error:
            raise FileFailedError(path=file, reason=error.strerror) from error
        yield kept
