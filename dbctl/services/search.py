"""Searches of an app's content, as its profile describes them: a page of rows, how many there are, how they are found."""

from __future__ import annotations

from collections.abc import Sequence

from dbctl.engines.base import Capability, Explains, Order, Readable, Where
from dbctl.errors import NotSupportedError, SchemaLacksError, SearchMissingError, UsageError
from dbctl.model import Page, Row, Value, Window
from dbctl.profiles.search_model import Search, Sort
from dbctl.services.apps import App
from dbctl.services.near import question
from dbctl.services.query_language import Term, limited, parse_filter, render
from dbctl.services.query_values import checked
from dbctl.services.search_terms import Compiler, lacking, present

#: Stands for every key whose rows are hidden.
ALL = "all"


class Asked(Value, frozen=True, kw_only=True):
    """What a person looks for; everything said must be met."""

    words: Sequence[str] = ()  #: literal text
    filters: Sequence[str] = ()  #: ``key=value`` and its kin; of several for one key, one is enough
    query: str = ""  #: in the language of the search
    shown: Sequence[str] = ()  #: hidden keys whose rows are wanted too; ``ALL`` for every one


class Counted(Value, frozen=True, kw_only=True):
    """Answer of a search that only counts."""

    total: int


class Step(Value, frozen=True, kw_only=True):
    """One step of an engine's plan, in its own words, indented by depth."""

    step: str


class Explained(Value, frozen=True, kw_only=True):
    """How a search would be answered."""

    understood: str  #: words, filters and query as one query, in the language of the search
    sql: str
    parameters: Sequence[object]
    plan: Sequence[Step]
    full_scans: Sequence[str]  #: tables that are read whole


class _Question(Value, frozen=True):
    """What was asked, as the engine takes it."""

    compiler: Compiler
    terms: Sequence[Term]
    where: Sequence[Where]
    order: Sequence[Order]


def names(app: App) -> list[str]:
    """Return the searches of the app."""
    return [search.name for search in app.ability(app.profile.search, "search")]


def named(app: App, name: str) -> Search:
    """Return one search of the app.

    Raises:
        AbilityMissingError: the app has none.
        UsageError: ``name`` is empty.
        SearchMissingError: it has others.
    """
    if not name:
        raise UsageError(detail=f"say what to search in {app.name}: {' or '.join(names(app))}")
    for search in app.ability(app.profile.search, "search"):
        if search.name == name:
            return search
    raise SearchMissingError(app=app.name, name=name, names=", ".join(names(app)))


def find(
    app: App, name: str, asked: Asked, window: Window, *, columns: Sequence[str] = (), brief: bool = False
) -> Page[Row]:
    """Return the rows that meet everything asked, one page of them, in the order asked for.

    Args:
        app: the app.
        name: the search.
        asked: what is looked for.
        window: which page, and its order.
        columns: those of an item that are wanted, of all the table has; none: those the profile shows.
        brief: whether those that suit a narrow table will do.
    """
    question = _question(app, name, asked, window)
    search, db = question.compiler.search, question.compiler.db
    chosen = _columns(search, db, columns, brief=brief)
    rows = db.select(
        search.table,
        chosen,
        question.where,
        order_by=question.order,
        limit=window.limit,
        offset=window.offset,
    )
    last = (rows or not window.offset) and (window.limit is None or len(rows) < window.limit)
    total = window.offset + len(rows) if last else db.count(search.table, question.where)
    items = [dict(zip(chosen, row, strict=True)) for row in rows]
    return Page(items=items, total=total, limit=window.limit, offset=window.offset, names=chosen)


def count(app: App, name: str, asked: Asked) -> Counted:
    """Return how many rows meet everything asked."""
    question = _question(app, name, asked, Window())
    return Counted(total=question.compiler.db.count(question.compiler.search.table, question.where))


def explain(app: App, name: str, asked: Asked, window: Window) -> Explained:
    """Return how ``find`` would be answered, without answering it.

    Raises:
        NotSupportedError: the engine cannot tell.
    """
    question = _question(app, name, asked, window)
    search, db = question.compiler.search, question.compiler.db
    if Capability.EXPLAIN not in db.capabilities or not isinstance(db, Explains):
        raise NotSupportedError(
            what="--explain", by=db.target, instead="Its engine does not tell how it reads."
        )
    told = db.explain(
        search.table,
        _columns(search, db, (), brief=False),
        question.where,
        order_by=question.order,
        limit=window.limit,
        offset=window.offset,
    )
    return Explained(
        understood=render(question.terms, question.compiler.prefixes),
        sql=told.sql,
        parameters=told.parameters,
        plan=[Step(step=step) for step in told.plan],
        full_scans=told.full_scans,
    )


def _question(app: App, name: str, asked: Asked, window: Window) -> _Question:
    search = named(app, name)
    compiler = Compiler(app.profile, search, app.reader(search.database))
    words = [Term(None, "contains", checked(word)) for word in asked.words if word]
    filters = [parse_filter(text, compiler.keys) for text in asked.filters]
    query = compiler.read(asked.query)
    terms = limited([*words, *filters, *query])
    mentioned = frozenset(term.key for term in terms if term.key) | _shown(search, asked.shown)
    where = [*compiler.all_of([*words, *query]), *compiler.filters(filters), *compiler.hidden(mentioned)]
    return _Question(compiler, terms, where, _orders(compiler, filters, window.sort))


def _shown(search: Search, asked: Sequence[str]) -> frozenset[str]:
    hidden = {spelling.lower(): key.names[0] for key in search.key if key.hidden for spelling in key.names}
    if ALL in asked:
        return frozenset(hidden.values())
    for word in asked:
        if word.lower() not in hidden:
            known = ", ".join(dict.fromkeys(hidden.values())) or "nothing"
            raise UsageError(detail=f"nothing hidden is called {word!r}; hidden in {search.name}: {known}")
    return frozenset(hidden[word.lower()] for word in asked)


def _orders(compiler: Compiler, filters: Sequence[Term], sort: str) -> list[Order]:
    """Return the order asked for, else the one that a filter brings along; equal rows come in the search's own order."""
    search = compiler.search
    own = _order(compiler, search.sort[0], descending=False)
    if not sort:
        brought = [order for term in filters if (order := compiler.order_of(term)) is not None]
        return [*brought[:1], own]
    wanted = sort.removeprefix("-")
    for known in search.sort:
        if known.name.lower() == wanted.lower():
            return [_order(compiler, known, descending=sort != wanted), own]
    known_names = [known.name for known in search.sort]
    raise UsageError(
        detail=f"no order {wanted!r}{question(wanted, known_names)}; known: {', '.join(known_names)}"
    )


def _order(compiler: Compiler, sort: Sort, *, descending: bool) -> Order:
    if sort.kind == "random":
        return Order((), random=True)
    columns = present(compiler.tables, compiler.search.table, sort.columns)
    if not columns:
        raise SchemaLacksError(
            target=compiler.db.target,
            what=f"column {' and '.join(sort.columns)}",
            purpose=f"the order {sort.name}",
        )
    return Order(tuple(columns), descending=descending, time=sort.kind == "time", nocase=sort.kind == "text")


def _columns(search: Search, db: Readable, asked: Sequence[str], *, brief: bool) -> list[str]:
    tables = db.tables()
    if asked:
        known = list(tables[search.table].columns)
        for name in asked:
            if name not in known:
                raise UsageError(
                    detail=f"--columns: there is no column {name!r}{question(name, known)}; known: {', '.join(known)}"
                )
        return list(dict.fromkeys(asked))
    wanted = search.brief if brief and search.brief else search.show
    for lack in lacking(tables, search.table, wanted, []):
        raise SchemaLacksError(target=db.target, what=lack, purpose=f"the search {search.name}")
    return present(tables, search.table, wanted)
