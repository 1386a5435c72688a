"""Searches of an app's content, as its profile describes them: a page of rows, how many there are, how they are found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dbctl.engines.base import Capability, Explains, Order, Readable, Where
from dbctl.errors import (
    NotSupportedError,
    SchemaLacksError,
    SearchMissingError,
    SidecarUnsoundError,
    UsageError,
)
from dbctl.model import Page, Row, Value, Window
from dbctl.profiles.codecs import read_boolean, read_time
from dbctl.profiles.search_model import Search
from dbctl.services import search_sidecar as sidecars
from dbctl.services import search_snippet as snippets
from dbctl.services.apps import App
from dbctl.services.near import question
from dbctl.services.query_language import Term, limited, parse_filter, render
from dbctl.services.query_values import checked
from dbctl.services.search_sidecar import Through
from dbctl.services.search_snippet import Marks
from dbctl.services.search_terms import Compiler, lacking, present
from dbctl.services.search_text import Words, finder, left, remark
from dbctl.services.search_text import asked as asked_of_index

T = TypeVar("T")

#: What stands behind the columns of a row that an index has found.
RANKED = ("score", "snippet")
#: What stands there where one should have.
SNIPPET = ("snippet",)
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


class Counting(Value, frozen=True, kw_only=True):
    """How many rows there are, and what to know of how they were counted."""

    counted: Counted
    remark: str

    @property
    def total(self) -> int:
        """How many there are."""
        return self.counted.total


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
    order: Sequence[Order]  #: empty where the index of words tells which rows fit best
    words: Words | None  #: what is left to that index
    through: Through | None  #: what is left to an index in a file of its own
    remark: str  #: why nothing is
    literal: Sequence[str]  #: all words that are looked for

    @property
    def is_read(self) -> bool:
        """Whether words are looked for in every row, though an index should find them."""
        return bool(self.compiler.search.text and self.literal and not self.words)


class Found(Page[Row], frozen=True, kw_only=True):
    """Answer of a search."""

    remark: str = ""  #: what to know of how it was found


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
    app: App,
    name: str,
    asked: Asked,
    window: Window,
    *,
    columns: Sequence[str] = (),
    brief: bool = False,
    marks: Marks = ("", ""),
) -> Found:
    """Return the rows that meet everything asked, one page of them, in the order asked for.

    Where an index found the words, each has ``score`` and ``snippet`` behind its own columns, and the best come first.
    Where there should be an index and none is of use, each has ``snippet`` alone.

    Args:
        app: the app.
        name: the search.
        asked: what is looked for.
        window: which page, and its order.
        columns: those of an item that are wanted, of all the table has; none: those the profile shows.
        brief: whether those that suit a narrow table will do.
        marks: what is put before and behind each word in a snippet.
    """

    def found(question: _Question) -> Found:
        return _found(question, window, columns=columns, brief=brief, marks=marks)

    return _answered(app, name, asked, window, found)


def _found(
    question: _Question, window: Window, *, columns: Sequence[str], brief: bool, marks: Marks
) -> Found:
    search, db = question.compiler.search, question.compiler.db
    behind = RANKED if question.words else SNIPPET if question.is_read else ()
    chosen = _columns(search, db, columns, beside=behind, brief=brief)
    texts = present(db.tables(), search.table, search.words) if question.is_read else []
    rows = _rows(question, list(dict.fromkeys([*chosen, *texts])), window)
    last = (rows or not window.offset) and (window.limit is None or len(rows) < window.limit)
    total = window.offset + len(rows) if last else _total(question)
    read = list(dict.fromkeys([*chosen, *texts, *(RANKED if question.words else ())]))
    items = [told(search, dict(zip(read, row, strict=True))) for row in rows]
    names = [*chosen, *(name for name in behind if name not in chosen)]
    return Found(
        items=[_with_snippet(question, names, one, marks) for one in items],
        total=total,
        limit=window.limit,
        offset=window.offset,
        names=names,
        remark=question.remark,
    )


def told(search: Search, row: Row) -> Row:
    """Return a row with its times and flags read, whichever form they are stored in."""
    if not (search.times or search.flags):
        return row
    read = {**dict.fromkeys(search.flags, _flag), **dict.fromkeys(search.times, _time)}
    return {name: read[name](value) if name in read else value for name, value in row.items()}


def _with_snippet(question: _Question, names: Sequence[str], row: Row, marks: Marks) -> Row:
    """Return a row with what of its text was found, and as much of its score as anybody compares."""
    if question.words:
        score, words = row["score"], question.words.words
        row = {**row, "snippet": snippets.shown(row["snippet"], words, marks)}
        return {**row, "score": round(score, 4)} if isinstance(score, float) else row
    if question.is_read:
        search = question.compiler.search
        blocks = search.text.blocks if search.text else ()
        columns = [name for name in search.words if name.removesuffix("?") in row]
        texts = [
            snippets.plain(row[name]) if name in blocks else row[name.removesuffix("?")] for name in columns
        ]
        row = {**row, "snippet": snippets.around(texts, question.literal, marks)}
    return {name: row[name] for name in names}


def _flag(stored: object) -> object:
    return None if stored is None else read_boolean(stored)


def _time(stored: object) -> object:
    read = read_time(stored)
    return stored if read is None else read


def _rows(question: _Question, chosen: Sequence[str], window: Window) -> list[tuple[object, ...]]:
    db, table = question.compiler.db, question.compiler.search.table
    able, aside = finder(db), sidecars.able(db)
    if question.through and aside:
        through = question.through
        return aside.found(
            through.of,
            through.words,
            chosen,
            question.where,
            order_by=question.order,
            limit=window.limit,
            offset=window.offset,
        )
    if question.words and able:
        return able.ranked(
            question.words.of,
            question.words.words,
            chosen,
            question.where,
            order_by=question.order,
            limit=window.limit,
            offset=window.offset,
        )
    return db.select(
        table, chosen, question.where, order_by=question.order, limit=window.limit, offset=window.offset
    )


def _total(question: _Question) -> int:
    db, able = question.compiler.db, finder(question.compiler.db)
    aside = sidecars.able(db)
    if question.through and aside:
        return aside.found_count(question.through.of, question.through.words, question.where)
    if question.words and able:
        return able.ranked_count(question.words.of, question.words.words, question.where)
    return db.count(question.compiler.search.table, question.where)


def count(app: App, name: str, asked: Asked) -> Counting:
    """Return how many rows meet everything asked."""

    def counted(question: _Question) -> Counting:
        return Counting(counted=Counted(total=_total(question)), remark=question.remark)

    return _answered(app, name, asked, Window(), counted)


def explain(app: App, name: str, asked: Asked, window: Window) -> Explained:
    """Return how ``find`` would be answered, without answering it.

    Raises:
        NotSupportedError: the engine cannot tell.
    """

    def explained(question: _Question) -> Explained:
        return _explained(question, window)

    return _answered(app, name, asked, window, explained)


def _explained(question: _Question, window: Window) -> Explained:
    search, db = question.compiler.search, question.compiler.db
    if Capability.EXPLAIN not in db.capabilities or not isinstance(db, Explains):
        raise NotSupportedError(
            what="--explain", by=db.target, instead="Its engine does not tell how it reads."
        )
    columns, able = _columns(search, db, (), brief=False), finder(db)
    aside = sidecars.able(db)
    if question.through and aside:
        plan = aside.explain_found(
            question.through.of,
            question.through.words,
            columns,
            question.where,
            order_by=question.order,
            limit=window.limit,
            offset=window.offset,
        )
    elif question.words and able:
        words = question.words
        plan = able.explain_ranked(
            words.of,
            words.words,
            columns,
            question.where,
            order_by=question.order,
            limit=window.limit,
            offset=window.offset,
        )
    else:
        plan = db.explain(
            search.table,
            columns,
            question.where,
            order_by=question.order,
            limit=window.limit,
            offset=window.offset,
        )
    return Explained(
        understood=render(question.terms, question.compiler.prefixes),
        sql=plan.sql,
        parameters=plan.parameters,
        plan=[Step(step=step) for step in plan.plan],
        full_scans=plan.full_scans,
    )


def _answered(app: App, name: str, asked: Asked, window: Window, answer: Callable[[_Question], T]) -> T:
    """Return the answer to a question; where an index in a file of its own fails, or was replaced, ask again, at last without it."""
    unsound = None
    for _ in range(2):
        try:
            return answer(_question(app, name, asked, window))
        except SidecarUnsoundError as error:
            unsound = error
    return answer(_question(app, name, asked, window, unsound))


def _question(
    app: App, name: str, asked: Asked, window: Window, unsound: SidecarUnsoundError | None = None
) -> _Question:
    """Return what was asked; ``unsound`` is why an index in a file of its own is not to be used."""
    search = named(app, name)
    compiler = Compiler(app.profile, search, app.reader(search.database))
    words = [Term(None, "contains", checked(word)) for word in asked.words if word]
    filters = [parse_filter(text, compiler.keys) for text in asked.filters]
    query = compiler.read(asked.query)
    terms = limited([*words, *filters, *query])
    mentioned = frozenset(term.key for term in terms if term.key) | _shown(search, asked.shown)
    ranked = asked_of_index(search, compiler.db, [*words, *query])
    scanned = left(ranked, [*words, *query])
    plain = any(term.key is None and not term.negated for term in scanned)
    why = remark(search, compiler.db) if plain or ranked else ""
    order = [] if ranked and not window.sort else _orders(compiler, filters, window.sort)
    narrowed = [*compiler.filters(filters), *compiler.hidden(mentioned)]
    if unsound is None:
        rest = [*compiler.all_of([one for one in scanned if not sidecars.is_word(one)]), *narrowed]
        aside = sidecars.asked(app, compiler, scanned, rest, order)
        scanned = sidecars.left(aside.through, scanned)
    else:
        aside = sidecars.Asked(None, f"{unsound}; every row was read; {unsound.hint}")
    literal = [str(term.value) for term in [*words, *query] if term.key is None and not term.negated]
    return _Question(
        compiler=compiler,
        terms=terms,
        where=[*compiler.all_of(scanned), *narrowed],
        order=order,
        words=ranked,
        through=aside.through,
        remark=why or aside.remark,
        literal=literal,
    )


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
    own = compiler.order(search.sort[0], descending=search.sort[0].descending)
    if not sort:
        brought = [order for term in filters if (order := compiler.order_of(term)) is not None]
        return [*brought[:1], own]
    wanted = sort.removeprefix("-")
    for known in search.sort:
        columns = [column.lower() for column in known.columns]
        if known.name.lower() == wanted.lower() or columns == [wanted.lower()]:
            return [compiler.order(known, descending=sort != wanted), own]
    known_names = [known.name for known in search.sort]
    raise UsageError(
        detail=f"no order {wanted!r}{question(wanted, known_names)}; known: {', '.join(known_names)}"
    )


def _columns(
    search: Search, db: Readable, asked: Sequence[str], *, beside: Sequence[str] = (), brief: bool
) -> list[str]:
    """Return the columns that are read; ``beside`` are those that stand behind them, and may be asked for, too."""
    tables = db.tables()
    if asked:
        known = list(tables[search.table].columns)
        for name in asked:
            if name not in (*known, *beside):
                raise UsageError(
                    detail=f"--columns: there is no column {name!r}{question(name, known)}; known: {', '.join(known)}"
                )
        return [name for name in dict.fromkeys(asked) if name in known] or [search.id]
    wanted = search.brief if brief and search.brief else search.show
    for lack in lacking(tables, search.table, wanted, []):
        raise SchemaLacksError(target=db.target, what=lack, purpose=f"the search {search.name}")
    return present(tables, search.table, wanted)
