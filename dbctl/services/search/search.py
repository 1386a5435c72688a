"""Searches of an app's content, as its profile describes them: a page of rows, how many there are, how they are found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from msgspec import structs

from dbctl.engines.contract import (
    Capability,
    Explains,
    Order,
    Readable,
    TextNot,
    TextQuery,
    TextTerm,
    Where,
    join_queries,
)
from dbctl.errors import (
    NotSupportedError,
    SchemaLacksError,
    SearchMissingError,
    SidecarUnsoundError,
    UsageError,
)
from dbctl.model import Page, Row, Value, Window
from dbctl.profiles import read_boolean, read_time
from dbctl.profiles.model import Search
from dbctl.services.app import App, question
from dbctl.services.search import external_index
from dbctl.services.search.compiler import Compiler, lacking, present
from dbctl.services.search.external_index import Through
from dbctl.services.search.fulltext import Ranked, finder, ranked_by, remark
from dbctl.services.search.narrowing import Narrowed, Texts, matching, narrow, rows_by_key
from dbctl.services.search.query_parser import Term, limited, parse_filter, render
from dbctl.services.search.snippets import Marks, around
from dbctl.services.search.text_query_parser import parse_text, write_text

if TYPE_CHECKING:
    from dbctl.services.search.links import Links
    from dbctl.services.search.text_match import TextMatcher

T = TypeVar("T")

#: Columns of every search by words that may have an index of words: NULL where none ranks, or nothing was looked for.
RANKED = ("score", "snippet")
#: Stands for every key whose rows are hidden.
ALL = "all"


class Asked(Value, frozen=True, kw_only=True):
    """What a person looks for; everything said must be met."""

    words: Sequence[str] = ()  #: what texts hold, in the language of ``text_language``
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
    understood: str
    text: TextQuery | None  #: what the texts of a row have to hold
    where: Sequence[Where]
    order: Sequence[Order]  #: empty where the index of words tells which rows fit best
    ranked: Ranked | None  #: what an index of words is asked for
    through: Through | None  #: what is left to an index in a file of its own
    exact: bool  #: whether the engine alone finds the rows
    remark: str  #: why no index is used

    @property
    def texts(self) -> Texts:
        """Where the texts of a row stand."""
        search = self.compiler.search
        columns = present(self.compiler.tables, search.table, search.words)
        blocks = search.text.blocks if search.text else ()
        return Texts(table=search.table, id=search.id, columns=columns, blocks=blocks)


class _Hits(Value, frozen=True):
    """Rows that meet a question: their keys in their order, and the score of those that an index ranks."""

    keys: Sequence[object]
    scores: Mapping[object, object]


class Found(Page[Row], frozen=True, kw_only=True):
    """Answer of a search."""

    remark: str = ""  #: what to know of how it was found


def names(app: App) -> list[str]:
    """Return the searches of the app."""
    return list(dict.fromkeys(search.name for search in app.ability(app.profile.search, "search")))


def named(app: App, name: str) -> Search:
    """Return one search of the app: of several with that name the first whose table exists, else the last.

    Raises:
        AbilityMissingError: the app has none.
        UsageError: ``name`` is empty.
        SearchMissingError: it has others.
    """
    if not name:
        raise UsageError(detail=f"say what to search in {app.name}: {' or '.join(names(app))}")
    variants = [search for search in app.ability(app.profile.search, "search") if search.name == name]
    if not variants:
        raise SearchMissingError(app=app.name, name=name, names=", ".join(names(app)))
    *earlier, last = variants
    return next((search for search in earlier if _has_table(app, search)), last)


def _has_table(app: App, search: Search) -> bool:
    return (
        search.database in app.configured.databases and search.table in app.reader(search.database).tables()
    )


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

    Where the search may have an index of words and words are looked for, each has ``score`` and ``snippet`` behind its own
    columns. Where the index is of use, the best come first.

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
        page = _found(question, window, columns=columns, brief=brief, marks=marks)
        return structs.replace(page, items=_masked(app, question, page.items)) if columns else page

    return _answered(app, name, asked, window, found)


def _masked(app: App, question: _Question, rows: Sequence[Row]) -> list[Row]:
    """Return rows whose columns the caller chose, with secrets masked; those that the profile chose hold none."""
    from dbctl.services.app import hidden, mask

    search = question.compiler.search
    columns = hidden(app, search.database, question.compiler.db, [search.table]).get(search.table, ())
    return [mask(row, columns) for row in rows]


def _found(
    question: _Question, window: Window, *, columns: Sequence[str], brief: bool, marks: Marks
) -> Found:
    search, db = question.compiler.search, question.compiler.db
    behind = RANKED if search.text and question.text else ()
    linked = _links(search, db) if search.linked else None
    further = linked.names if linked else []
    beside = [*further, *(RANKED if search.text else ())]
    chosen = _columns(search, db, columns, beside=beside, brief=brief)
    names = list(dict.fromkeys(columns)) or [*chosen, *([] if brief else further), *behind]
    texts = question.texts.columns if "snippet" in names and question.text else []
    read = list(dict.fromkeys([*chosen, *texts, *(linked.starts(names) if linked else ())]))
    if question.exact:
        rows: list[Row] = [dict(zip(read, row, strict=True)) for row in _rows(question, read, window)]
        last = (rows or not window.offset) and (window.limit is None or len(rows) < window.limit)
        total = window.offset + len(rows) if last else _total(question)
    else:
        hits = _hits(question)
        total = len(hits.keys)
        rows = _rows_of(question, hits, read, window)
    rows = linked.added(rows, names) if linked else rows
    if texts and question.text:
        matcher = _matcher(question.text)
        rows = [{**row, "snippet": around(_texts_of(question, row), matcher, marks)} for row in rows]
    return Found(
        items=[told(search, {name: row.get(name) for name in names}) for row in rows],
        total=total,
        limit=window.limit,
        offset=window.offset,
        names=names,
        remark=question.remark,
    )


def _hits(question: _Question) -> _Hits:
    """Return every row that meets a question which the engine alone does not answer."""
    db, text, texts = question.compiler.db, question.text, question.texts
    rows = _rows(question, [texts.id], Window())
    scores = {row[0]: row[1] for row in rows} if question.ranked else {}
    keys = [row[0] for row in rows]
    return _Hits(list(matching(db, texts, _matcher(text), keys)) if text else keys, scores)


def _rows_of(question: _Question, hits: _Hits, columns: Sequence[str], window: Window) -> list[Row]:
    """Return one page of the rows that were found, with as much of their score as anybody compares."""
    end = None if window.limit is None else window.offset + window.limit
    keys = hits.keys[window.offset : end]
    rows = rows_by_key(question.compiler.db, question.texts, columns, keys)
    found: list[Row] = []
    for key in keys:
        if key in rows:
            score = hits.scores.get(key)
            score = round(score, 4) if isinstance(score, float) else score
            found.append({**dict(zip(columns, rows[key], strict=True)), "score": score})
    return found


def _links(search: Search, db: Readable) -> Links:
    from dbctl.services.search.links import Links

    return Links(search, db)


def _matcher(text: TextQuery) -> TextMatcher:
    from dbctl.services.search.text_match import TextMatcher

    return TextMatcher(text)


def _texts_of(question: _Question, row: Row) -> list[str]:
    texts = question.texts
    return texts.of([row[name] for name in texts.columns])


def told(search: Search, row: Row) -> Row:
    """Return a row with its times and flags read, whichever form they are stored in."""
    if not (search.times or search.flags):
        return row
    read = {**dict.fromkeys(search.flags, _flag), **dict.fromkeys(search.times, _time)}
    return {name: read[name](value) if name in read else value for name, value in row.items()}


def _flag(stored: object) -> object:
    return None if stored is None else read_boolean(stored)


def _time(stored: object) -> object:
    read = read_time(stored)
    return stored if read is None else read


def _rows(question: _Question, chosen: Sequence[str], window: Window) -> list[tuple[object, ...]]:
    """Return rows that may meet a question, or do where it is exact; those that are ranked with their score behind."""
    db, table = question.compiler.db, question.compiler.search.table
    able, aside = finder(db), external_index.able(db)
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
    if question.ranked and able:
        ranked = question.ranked
        return able.ranked(ranked.index, ranked.query, chosen, question.where, order_by=question.order)
    return db.select(
        table, chosen, question.where, order_by=question.order, limit=window.limit, offset=window.offset
    )


def _total(question: _Question) -> int:
    if not question.exact:
        return len(_hits(question).keys)
    aside = external_index.able(question.compiler.db)
    if question.through and aside:
        return aside.found_count(question.through.of, question.through.words, question.where)
    return question.compiler.db.count(question.compiler.search.table, question.where)


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
    columns = _columns(search, db, (), brief=False) if question.exact else [search.id]
    window, able = window if question.exact else Window(), finder(db)
    aside = external_index.able(db)
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
    elif question.ranked and able:
        ranked = question.ranked
        plan = able.explain_ranked(
            ranked.index, ranked.query, columns, question.where, order_by=question.order
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
        understood=question.understood,
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
    parts = search.language == "fpa" and search.text is None
    filters = [parse_filter(text, compiler.keys) for text in asked.filters]
    keyed, texts = _read(compiler, asked, parts=parts)
    terms = limited([*filters, *keyed])
    text = join_queries(texts)
    narrowed = narrow(text, compiler.contains) if text else Narrowed((), (), exact=True)
    mentioned = frozenset(term.key for term in terms if term.key) | _shown(search, asked.shown)
    ranked = ranked_by(search, compiler.db, text) if text else None
    order = [] if ranked and not window.sort else _orders(compiler, filters, window.sort)
    rest = [*compiler.all_of(keyed), *compiler.filters(filters), *compiler.hidden(mentioned)]
    if ranked and ranked.finds:
        narrowed = Narrowed((), (), exact=False)
    rest = [*narrowed.where, *rest]
    if unsound is None:
        aside = external_index.asked(app, compiler, narrowed.words, rest, order)
    else:
        aside = external_index.Asked(None, f"{unsound}; every row was read; {unsound.hint}")
    words = external_index.left(aside.through, narrowed.words)
    if not (terms or text or aside.through):
        order = _indexed(search, order)
    why = remark(search, compiler.db) if text else ""
    return _Question(
        compiler=compiler,
        understood=" ".join(
            written
            for written in (write_text(text, parts=parts), render(terms, compiler.prefixes))
            if written
        ),
        text=text,
        where=[*map(compiler.contains, words), *rest],
        order=order,
        ranked=ranked,
        through=aside.through,
        exact=narrowed.exact and not ranked and not (search.text and search.text.blocks and text),
        remark=why or aside.remark,
    )


def _read(compiler: Compiler, asked: Asked, *, parts: bool) -> tuple[list[Term], list[TextQuery]]:
    """Return the terms with a key that were asked for, and what texts have to hold."""
    words = parse_text(" ".join(asked.words), parts=parts)
    texts = [words] if words else []
    if compiler.search.language == "words":
        query = parse_text(asked.query)
        return [], [*texts, *([query] if query else [])]
    terms = compiler.read(asked.query)
    for term in terms:
        if term.key is None:
            part = TextTerm((str(term.value),), "part")
            texts.append(TextNot(part) if term.negated else part)
    return [term for term in terms if term.key], texts


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


def _indexed(search: Search, order: Sequence[Order]) -> list[Order]:
    """Return the order of all rows, as one that an index may serve where the search is in its own order."""
    own, first = order[-1], search.sort[0]
    if not first.lowercase or own.descending or not own.columns[1:] or any(term != own for term in order):
        return list(order)
    return [Order(own.columns, nocase=True, indexed=True)]


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
