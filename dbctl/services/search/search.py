"""Run the searches of an app: find a page of rows, count rows, explain a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from msgspec import structs

from dbctl.engines.contract.database import Order, Readable
from dbctl.engines.contract.fulltext import TextNot, TextQuery, TextTerm, join_queries
from dbctl.errors.connection import ExternalIndexInvalidError
from dbctl.errors.usage import SchemaMismatchError, SearchMissingError, UsageError
from dbctl.model import PageRequest, Row, Struct
from dbctl.profiles.codecs import decode_text, read_boolean, read_time
from dbctl.profiles.model.search import Search
from dbctl.services.app.app import App
from dbctl.services.search.compiler import QueryCompiler, list_missing, select_existing
from dbctl.services.search.indexes.kinds import Strategy
from dbctl.services.search.query_parser import Term, check_term_count, parse_filter, write_query
from dbctl.services.search.request import (
    ALL,
    CountResult,
    LinkedColumns,
    SearchCount,
    SearchPlan,
    SearchRequest,
    SearchResult,
    Step,
)
from dbctl.services.search.snippets import Marks, create_snippet
from dbctl.services.search.strategy import Conditions, choose_strategy, list_text_columns
from dbctl.services.search.text_query_parser import parse_text, write_text

T = TypeVar("T")

#: Extra columns of searches with a full-text index; NULL without a ranking, or without words in the request.
RANK_COLUMNS = ("score", "snippet")


class _PreparedQuery(Struct, frozen=True):
    """A compiled request."""

    compiler: QueryCompiler
    terms: Sequence[Term]  #: conditions with a key
    text: TextQuery | None  #: condition on the texts of a row
    strategy: Strategy
    note: str  #: the reason why no index is used


def list_search_names(app: App) -> list[str]:
    return list(dict.fromkeys(search.name for search in app.require_section(app.profile.search, "search")))


def select_search(app: App, name: str) -> Search:
    """Return a search by name: the first variant whose table exists, otherwise the last.

    Raises:
        FeatureMissingError: the app has no searches.
        UsageError: ``name`` is empty.
        SearchMissingError: no search has that name.
    """
    if not name:
        raise UsageError(
            detail=f"name of the search missing; {app.name} has {' or '.join(list_search_names(app))}"
        )
    variants = [search for search in app.require_section(app.profile.search, "search") if search.name == name]
    if not variants:
        raise SearchMissingError(
            app=app.name,
            name=name,
            names=", ".join(list_search_names(app)),
            candidates=list_search_names(app),
        )
    *earlier, last = variants
    configured = (search for search in earlier if search.database in app.configured.databases)
    return next(
        (search for search in configured if search.table in app.reader(search.database).tables()), last
    )


def find(
    app: App,
    name: str,
    request: SearchRequest,
    page_request: PageRequest,
    *,
    columns: Sequence[str] = (),
    summary: bool = False,
    marks: Marks = ("", ""),
) -> SearchResult:
    """Return one page of the rows that match the request.

    If the search can have a full-text index and the request has words, each row ends with ``score`` and ``snippet``. Ranked rows
    are sorted by their score, unless ``page_request`` has an order.

    Args:
        app: the app.
        name: the search.
        request: the conditions.
        page_request: the page and its order.
        columns: any columns of the table; default: those of the profile.
        summary: whether to return only the columns for a narrow table.
        marks: text before and after each match in a snippet.
    """

    def read_page(query: _PreparedQuery) -> SearchResult:
        page = _read_page(query, page_request, columns=columns, summary=summary, marks=marks)
        return structs.replace(page, items=_mask_secrets(app, query, page.items)) if columns else page

    return _run_with_fallback(app, name, request, page_request, read_page)


def _mask_secrets(app: App, query: _PreparedQuery, rows: Sequence[Row]) -> list[Row]:
    """Return rows with secrets masked. The columns that a profile selects contain none."""
    from dbctl.services.app.secrets import find_secret_columns, mask

    search = query.compiler.search
    columns = find_secret_columns(app, search.database, query.compiler.db, [search.table]).get(
        search.table, ()
    )
    return [mask(row, columns) for row in rows]


def _read_page(
    query: _PreparedQuery, page_request: PageRequest, *, columns: Sequence[str], summary: bool, marks: Marks
) -> SearchResult:
    search, db = query.compiler.search, query.compiler.db
    rank_columns = RANK_COLUMNS if search.text and query.text else ()
    links = None
    if search.linked:
        links = LinkedColumns(search, db)
    link_names = links.names if links else []
    extra = [*link_names, *(RANK_COLUMNS if search.text else ())]
    selected = _select_columns(search, db, columns, extra=extra, summary=summary)
    names = list(dict.fromkeys(columns)) or [*selected, *([] if summary else link_names), *rank_columns]
    texts = list_text_columns(query.compiler)
    text_columns = texts.columns if "snippet" in names and query.text else []
    stored_columns = list(
        dict.fromkeys([*selected, *text_columns, *(links.list_source_columns(names) if links else ())])
    )
    read_names = [*stored_columns, *query.strategy.extra_columns]
    rows: list[Row] = [
        dict(zip(read_names, row, strict=True)) for row in query.strategy.rows(stored_columns, page_request)
    ]
    total = page_request.find_total(len(rows), query.strategy.count)
    rows = links.add_columns(rows, names) if links else rows
    if text_columns and query.text:
        from dbctl.services.search.text_match import TextMatcher

        matcher = TextMatcher(query.text)
        rows = [
            {
                **row,
                "snippet": create_snippet(
                    texts.select_texts([row[name] for name in texts.columns]), matcher, marks
                ),
            }
            for row in rows
        ]
    return SearchResult(
        items=[decode_row(search, {name: row.get(name) for name in names}) for row in rows],
        total=total,
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=names,
        note=query.note,
    )


def decode_row(search: Search, row: Row) -> Row:
    """Return a row with its texts, times and flags decoded from any stored form."""
    if any(isinstance(value, bytes) for value in row.values()):
        row = {name: decode_text(value) for name, value in row.items()}
    if not (search.times or search.flags):
        return row
    flags = {name: read_boolean(row[name]) for name in search.flags if row.get(name) is not None}
    times = {name: time for name in search.times if (time := read_time(row.get(name))) is not None}
    return {**row, **flags, **times}


def count(app: App, name: str, request: SearchRequest) -> CountResult:
    """Return the number of rows that match the request."""

    def read_count(query: _PreparedQuery) -> CountResult:
        return CountResult(count=SearchCount(total=query.strategy.count()), note=query.note)

    return _run_with_fallback(app, name, request, PageRequest(), read_count)


def explain(app: App, name: str, request: SearchRequest, page_request: PageRequest) -> SearchPlan:
    """Return the plan of ``find`` without executing it.

    Raises:
        NotSupportedError: the engine cannot explain queries.
    """

    def read_plan(query: _PreparedQuery) -> SearchPlan:
        search, db = query.compiler.search, query.compiler.db
        text = write_text(query.text, inside_words=_matches_inside_words(search))
        terms = write_query(query.terms, query.compiler.prefixes)
        plan = query.strategy.explain(_select_columns(search, db, (), summary=False), page_request)
        return SearchPlan(
            query=" ".join(part for part in (text, terms) if part),
            sql=plan.sql,
            parameters=plan.parameters,
            plan=[Step(step=step) for step in plan.plan],
            full_scans=plan.full_scans,
        )

    return _run_with_fallback(app, name, request, page_request, read_plan)


def _matches_inside_words(search: Search) -> bool:
    return search.language == "fpa" and search.text is None


def _run_with_fallback(
    app: App, name: str, request: SearchRequest, page_request: PageRequest, run: Callable[[_PreparedQuery], T]
) -> T:
    """Run a query; if the external index fails or was replaced, run it again, the third time without the index."""
    index_error = None
    for _ in range(2):
        try:
            return run(_prepare_query(app, name, request, page_request))
        except ExternalIndexInvalidError as error:
            index_error = error
    return run(_prepare_query(app, name, request, page_request, index_error))


def _prepare_query(
    app: App,
    name: str,
    request: SearchRequest,
    page_request: PageRequest,
    index_error: ExternalIndexInvalidError | None = None,
) -> _PreparedQuery:
    """Compile a request; with ``index_error``, the external index is not used."""
    search = select_search(app, name)
    compiler = QueryCompiler(app.profile, search, app.reader(search.database))
    inside_words = _matches_inside_words(search)
    filters = [parse_filter(text, compiler.keys) for text in request.filters]
    keyed, texts = _parse_request(compiler, request, inside_words=inside_words)
    terms = check_term_count([*filters, *keyed])
    text = join_queries(texts)
    used_keys = frozenset(term.key for term in terms if term.key) | _select_hidden_keys(
        search, request.show_hidden
    )
    conditions = Conditions(
        text=text,
        where=[
            *compiler.compile_terms(keyed),
            *compiler.compile_filters(filters),
            *compiler.exclude_hidden(used_keys),
        ],
        order=_select_order(compiler, filters, page_request.sort),
        sorted=bool(page_request.sort),
        all_rows=not (terms or text),
    )
    strategy, note = choose_strategy(app, compiler, conditions, index_error)
    return _PreparedQuery(compiler, terms, text, strategy, note)


def _parse_request(
    compiler: QueryCompiler, request: SearchRequest, *, inside_words: bool
) -> tuple[list[Term], list[TextQuery]]:
    """Return the terms with a key, and the conditions on texts."""
    words = parse_text(" ".join(request.words), inside_words=inside_words)
    texts = [words] if words else []
    if compiler.search.language == "words":
        query = parse_text(request.query)
        return [], [*texts, *([query] if query else [])]
    terms = compiler.parse(request.query)
    for term in terms:
        if term.key is None:
            inner = TextTerm((str(term.value),), "part")
            texts.append(TextNot(inner) if term.negated else inner)
    return [term for term in terms if term.key], texts


def _select_hidden_keys(search: Search, names: Sequence[str]) -> frozenset[str]:
    hidden = {spelling.lower(): key.names[0] for key in search.key if key.hidden for spelling in key.names}
    if ALL in names:
        return frozenset(hidden.values())
    for name in names:
        if name.lower() not in hidden:
            hidden_names = ", ".join(dict.fromkeys(hidden.values())) or "nothing"
            raise UsageError(detail=f"no hidden key {name!r}; hidden in {search.name}: {hidden_names}")
    return frozenset(hidden[name.lower()] for name in names)


def _select_order(compiler: QueryCompiler, filters: Sequence[Term], sort: str) -> list[Order]:
    """Return the requested order, otherwise that of the first filter with an order; then the search's default."""
    search = compiler.search
    default = compiler.compile_order(search.sort[0], descending=search.sort[0].descending)
    if not sort:
        filter_orders = [order for term in filters if (order := compiler.find_term_order(term)) is not None]
        return [*filter_orders[:1], default]
    name = sort.removeprefix("-")
    for option in search.sort:
        columns = [column.lower() for column in option.columns]
        if option.name.lower() == name.lower() or columns == [name.lower()]:
            return [compiler.compile_order(option, descending=sort != name), default]
    option_names = [option.name for option in search.sort]
    raise UsageError(
        detail=f"no order {name!r}; known: {', '.join(option_names)}", name=name, candidates=option_names
    )


def _select_columns(
    search: Search, db: Readable, requested: Sequence[str], *, extra: Sequence[str] = (), summary: bool
) -> list[str]:
    """Return the table columns to read. ``extra`` are computed columns that the request may name."""
    tables = db.tables()
    if requested:
        column_names = list(tables[search.table].columns)
        for name in requested:
            if name not in (*column_names, *extra):
                raise UsageError(
                    detail=f"--columns: no column {name!r}; known: {', '.join(column_names)}",
                    name=name,
                    candidates=column_names,
                )
        return [name for name in dict.fromkeys(requested) if name in column_names] or [search.id]
    selected = search.summary if summary and search.summary else search.show
    for missing in list_missing(tables, search.table, selected, []):
        raise SchemaMismatchError(target=db.target, missing=missing, purpose=f"the search {search.name}")
    return select_existing(tables, search.table, selected)
