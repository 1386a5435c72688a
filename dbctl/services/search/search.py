"""Run the searches of an app: find a page of rows, count rows, explain a query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import structs

from dbctl.engines.contract import (
    Explainer,
    ExternalIndexes,
    FullText,
    Order,
    Readable,
    TextNot,
    TextQuery,
    TextTerm,
    Where,
    join_queries,
    require_part,
)
from dbctl.errors import (
    ExternalIndexInvalidError,
    SchemaMismatchError,
    SearchMissingError,
    UsageError,
)
from dbctl.model import Page, PageRequest, Row, Struct
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Search
from dbctl.services.app import App, suggest_question
from dbctl.services.search import external_index
from dbctl.services.search.compiler import QueryCompiler, list_missing, select_existing
from dbctl.services.search.external_index import ExternalQuery
from dbctl.services.search.fulltext import (
    IndexQuery,
    describe_index_problem,
    prepare_index_query,
)
from dbctl.services.search.narrowing import CandidateQuery, TextColumns, filter_keys, narrow, read_rows_by_key
from dbctl.services.search.query_parser import Term, check_term_count, parse_filter, write_query
from dbctl.services.search.snippets import Marks, create_snippet
from dbctl.services.search.text_query_parser import parse_text, write_text

if TYPE_CHECKING:
    from dbctl.services.search.links import LinkedColumns
    from dbctl.services.search.text_match import TextMatcher

T = TypeVar("T")

#: Extra columns of searches with a full-text index; NULL without a ranking, or without words in the request.
RANK_COLUMNS = ("score", "snippet")
#: Value of ``show_hidden`` that includes all hidden rows.
ALL = "all"


class SearchRequest(Struct, frozen=True, kw_only=True):
    """A request for rows; all conditions must be met."""

    words: Sequence[str] = ()  #: terms in the language of ``text_query_parser``
    filters: Sequence[str] = ()  #: ``key=value``, ``key<value`` …; alternatives if they have the same key
    query: str = ""  #: in the language of the search
    show_hidden: Sequence[str] = ()  #: hidden keys whose rows are included; ``ALL`` for all of them


class SearchCount(Struct, frozen=True, kw_only=True):
    """Result of a search that only counts."""

    total: int


class CountResult(Struct, frozen=True, kw_only=True):
    """Number of rows, with a note about the index that was not used."""

    count: SearchCount
    note: str

    @property
    def total(self) -> int:
        """Number of rows."""
        return self.count.total


class Step(Struct, frozen=True, kw_only=True):
    """One step of a query plan, in the text of the engine, indented by depth."""

    step: str


class SearchPlan(Struct, frozen=True, kw_only=True):
    """The query that a search would execute, and its plan."""

    query: str  #: words, filters and query as one text, in the language of the search
    sql: str
    parameters: Sequence[object]
    plan: Sequence[Step]
    full_scans: Sequence[str]  #: tables whose rows are all read


class _PreparedQuery(Struct, frozen=True):
    """A request as conditions for the engine."""

    compiler: QueryCompiler
    query: str
    text: TextQuery | None  #: condition on the texts of a row
    where: Sequence[Where]
    order: Sequence[Order]  #: empty: by the rank of the full-text index
    ranked: IndexQuery | None  #: the query of the full-text index
    lookup: ExternalQuery | None  #: the query of the external index
    exact: bool  #: whether the conditions of the engine need no further comparison
    note: str  #: the reason why no index is used

    @property
    def texts(self) -> TextColumns:
        """The columns with the texts of a row."""
        search = self.compiler.search
        columns = select_existing(self.compiler.tables, search.table, search.words)
        blocks = search.text.blocks if search.text else ()
        return TextColumns(table=search.table, id=search.id, columns=columns, blocks=blocks)


class _Hits(Struct, frozen=True):
    """The keys of matching rows, in order, and the scores of ranked rows by key."""

    keys: Sequence[object]
    scores: Mapping[object, object]


class SearchResult(Page[Row], frozen=True, kw_only=True):
    """One page of matching rows."""

    note: str = ""  #: the reason why no index was used


def list_search_names(app: App) -> list[str]:
    """Return the names of the app's searches."""
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
        raise SearchMissingError(app=app.name, name=name, names=", ".join(list_search_names(app)))
    *earlier, last = variants
    return next((search for search in earlier if _has_table(app, search)), last)


def _has_table(app: App, search: Search) -> bool:
    return (
        search.database in app.configured.databases and search.table in app.reader(search.database).tables()
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
    from dbctl.services.app import find_secret_columns, mask

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
    links = _open_links(search, db) if search.linked else None
    link_names = links.names if links else []
    extra = [*link_names, *(RANK_COLUMNS if search.text else ())]
    selected = _select_columns(search, db, columns, extra=extra, summary=summary)
    names = list(dict.fromkeys(columns)) or [*selected, *([] if summary else link_names), *rank_columns]
    text_columns = query.texts.columns if "snippet" in names and query.text else []
    stored_columns = list(
        dict.fromkeys([*selected, *text_columns, *(links.list_source_columns(names) if links else ())])
    )
    if query.exact:
        rows: list[Row] = [
            dict(zip(stored_columns, row, strict=True))
            for row in _select_rows(query, stored_columns, page_request)
        ]
        is_last_page = (rows or not page_request.offset) and (
            page_request.limit is None or len(rows) < page_request.limit
        )
        total = page_request.offset + len(rows) if is_last_page else _count_rows(query)
    else:
        hits = _find_hits(query)
        total = len(hits.keys)
        rows = _read_hits(query, hits, stored_columns, page_request)
    rows = links.add_columns(rows, names) if links else rows
    if text_columns and query.text:
        matcher = _create_matcher(query.text)
        rows = [{**row, "snippet": create_snippet(_select_texts(query, row), matcher, marks)} for row in rows]
    return SearchResult(
        items=[decode_row(search, {name: row.get(name) for name in names}) for row in rows],
        total=total,
        limit=page_request.limit,
        offset=page_request.offset,
        column_names=names,
        note=query.note,
    )


def _find_hits(query: _PreparedQuery) -> _Hits:
    """Return all matching rows of a query whose candidates must be compared with the text."""
    db, text, texts = query.compiler.db, query.text, query.texts
    rows = _select_rows(query, [texts.id], PageRequest())
    scores = {row[0]: row[1] for row in rows} if query.ranked else {}
    keys = [row[0] for row in rows]
    return _Hits(list(filter_keys(db, texts, _create_matcher(text), keys)) if text else keys, scores)


def _read_hits(
    query: _PreparedQuery, hits: _Hits, columns: Sequence[str], page_request: PageRequest
) -> list[Row]:
    """Return one page of the matching rows, with rounded scores."""
    end = None if page_request.limit is None else page_request.offset + page_request.limit
    keys = hits.keys[page_request.offset : end]
    rows = read_rows_by_key(query.compiler.db, query.texts, columns, keys)
    page: list[Row] = []
    for key in keys:
        if key in rows:
            score = hits.scores.get(key)
            score = round(score, 4) if isinstance(score, float) else score
            page.append({**dict(zip(columns, rows[key], strict=True)), "score": score})
    return page


def _open_links(search: Search, db: Readable) -> LinkedColumns:
    from dbctl.services.search.links import LinkedColumns

    return LinkedColumns(search, db)


def _create_matcher(query: TextQuery) -> TextMatcher:
    from dbctl.services.search.text_match import TextMatcher

    return TextMatcher(query)


def _select_texts(query: _PreparedQuery, row: Row) -> list[str]:
    texts = query.texts
    return texts.select_texts([row[name] for name in texts.columns])


def decode_row(search: Search, row: Row) -> Row:
    """Return a row with its times and flags decoded from any stored form."""
    if not (search.times or search.flags):
        return row
    decoders = {**dict.fromkeys(search.flags, _decode_flag), **dict.fromkeys(search.times, _decode_time)}
    return {name: decoders[name](value) if name in decoders else value for name, value in row.items()}


def _decode_flag(value: object) -> object:
    return None if value is None else read_boolean(value)


def _decode_time(value: object) -> object:
    timestamp = read_time(value)
    return value if timestamp is None else timestamp


def _select_rows(
    query: _PreparedQuery, columns: Sequence[str], page_request: PageRequest
) -> list[tuple[object, ...]]:
    """Return the rows that the engine selects; ranked rows have their score as last value."""
    db, table = query.compiler.db, query.compiler.search.table
    fulltext, external_indexes = db.part(FullText), db.part(ExternalIndexes)
    if query.lookup and external_indexes:
        lookup = query.lookup
        return external_indexes.search_external(
            lookup.index,
            lookup.words,
            columns,
            query.where,
            order_by=query.order,
            limit=page_request.limit,
            offset=page_request.offset,
        )
    if query.ranked and fulltext:
        ranked = query.ranked
        return fulltext.select_ranked(ranked.index, ranked.query, columns, query.where, order_by=query.order)
    return db.select(
        table,
        columns,
        query.where,
        order_by=query.order,
        limit=page_request.limit,
        offset=page_request.offset,
    )


def _count_rows(query: _PreparedQuery) -> int:
    if not query.exact:
        return len(_find_hits(query).keys)
    external_indexes = query.compiler.db.part(ExternalIndexes)
    if query.lookup and external_indexes:
        return external_indexes.count_external(query.lookup.index, query.lookup.words, query.where)
    return query.compiler.db.count(query.compiler.search.table, query.where)


def count(app: App, name: str, request: SearchRequest) -> CountResult:
    """Return the number of rows that match the request."""

    def read_count(query: _PreparedQuery) -> CountResult:
        return CountResult(count=SearchCount(total=_count_rows(query)), note=query.note)

    return _run_with_fallback(app, name, request, PageRequest(), read_count)


def explain(app: App, name: str, request: SearchRequest, page_request: PageRequest) -> SearchPlan:
    """Return the plan of ``find`` without executing it.

    Raises:
        NotSupportedError: the engine cannot explain queries.
    """

    def read_plan(query: _PreparedQuery) -> SearchPlan:
        return _explain(query, page_request)

    return _run_with_fallback(app, name, request, page_request, read_plan)


def _explain(query: _PreparedQuery, page_request: PageRequest) -> SearchPlan:
    search, db = query.compiler.search, query.compiler.db
    explainer = require_part(db, Explainer, "--explain", "Its engine cannot explain queries.")
    columns = _select_columns(search, db, (), summary=False) if query.exact else [search.id]
    page_request, fulltext = page_request if query.exact else PageRequest(), db.part(FullText)
    external_indexes = db.part(ExternalIndexes)
    if query.lookup and external_indexes:
        plan = external_indexes.explain_external(
            query.lookup.index,
            query.lookup.words,
            columns,
            query.where,
            order_by=query.order,
            limit=page_request.limit,
            offset=page_request.offset,
        )
    elif query.ranked and fulltext:
        ranked = query.ranked
        plan = fulltext.explain_ranked(ranked.index, ranked.query, columns, query.where, order_by=query.order)
    else:
        plan = explainer.explain(
            search.table,
            columns,
            query.where,
            order_by=query.order,
            limit=page_request.limit,
            offset=page_request.offset,
        )
    return SearchPlan(
        query=query.query,
        sql=plan.sql,
        parameters=plan.parameters,
        plan=[Step(step=step) for step in plan.plan],
        full_scans=plan.full_scans,
    )


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
    inside_words = search.language == "fpa" and search.text is None
    filters = [parse_filter(text, compiler.keys) for text in request.filters]
    keyed, texts = _parse_request(compiler, request, inside_words=inside_words)
    terms = check_term_count([*filters, *keyed])
    text = join_queries(texts)
    candidates = narrow(text, compiler.contains) if text else CandidateQuery((), (), exact=True)
    used_keys = frozenset(term.key for term in terms if term.key) | _select_hidden_keys(
        search, request.show_hidden
    )
    ranked = prepare_index_query(search, compiler.db, text) if text else None
    order = [] if ranked and not page_request.sort else _select_order(compiler, filters, page_request.sort)
    conditions = [
        *compiler.compile_terms(keyed),
        *compiler.compile_filters(filters),
        *compiler.exclude_hidden(used_keys),
    ]
    if ranked and ranked.finds_rows:
        candidates = CandidateQuery((), (), exact=False)
    conditions = [*candidates.where, *conditions]
    if index_error is None:
        external = external_index.prepare_lookup(app, compiler, candidates.words, conditions, order)
    else:
        external = external_index.ExternalLookup(
            None, f"{index_error}; every row was read; {index_error.hint}"
        )
    words = external_index.list_remaining_words(external.query, candidates.words)
    if not (terms or text or external.query):
        order = _use_index_order(search, order)
    index_note = describe_index_problem(search, compiler.db) if text else ""
    return _PreparedQuery(
        compiler=compiler,
        query=" ".join(
            part
            for part in (write_text(text, inside_words=inside_words), write_query(terms, compiler.prefixes))
            if part
        ),
        text=text,
        where=[*map(compiler.contains, words), *conditions],
        order=order,
        ranked=ranked,
        lookup=external.query,
        exact=candidates.exact and not ranked and not (search.text and search.text.blocks and text),
        note=index_note or external.note,
    )


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
        detail=f"no order {name!r}{suggest_question(name, option_names)}; known: {', '.join(option_names)}"
    )


def _use_index_order(search: Search, order: Sequence[Order]) -> list[Order]:
    """Return the order of all rows; the default order in a form for which an engine can use an index."""
    last, first = order[-1], search.sort[0]
    if (
        not first.lowercase
        or last.descending
        or not last.columns[1:]
        or any(entry != last for entry in order)
    ):
        return list(order)
    return [Order(last.columns, nocase=True, indexed=True)]


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
                    detail=f"--columns: no column {name!r}{suggest_question(name, column_names)}; known: {', '.join(column_names)}"
                )
        return [name for name in dict.fromkeys(requested) if name in column_names] or [search.id]
    selected = search.summary if summary and search.summary else search.show
    for missing in list_missing(tables, search.table, selected, []):
        raise SchemaMismatchError(target=db.target, missing=missing, purpose=f"the search {search.name}")
    return select_existing(tables, search.table, selected)
