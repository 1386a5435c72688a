"""A text query returns the same rows on every engine, with each kind of index and without an index."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.config.sections import Selection
from dbctl.engines.contract.fulltext import TextNear, TextTerm
from dbctl.errors.usage import ValueInvalidError
from dbctl.model import PageRequest
from dbctl.services.app.app import App
from dbctl.services.search import search
from dbctl.services.search.indexes.selection import create_change
from dbctl.services.search.request import SearchRequest
from dbctl.services.search.text_match import TextMatcher
from dbctl.services.search.text_query_parser import parse_text, write_text
from tests import servers

PROFILE = """
schema = "dbctl.profile/1"
name = "notebook"
title = "Notebook"
time = "iso-ms"

[databases.notes]
engines = ["sqlite", "postgresql", "mysql", "lancedb"]
needs = ["notes"]
{mode}

[[search]]
name = "notes"
database = "notes"
table = "notes"
id = "id"
words = ["title", "body"]
show = ["id", "title"]
sort = [{{ name = "id", columns = ["id"] }}]
{text}
"""
TEXT = """
[search.text]
index = "notes_words"
table = "NoteWords"
key = "note"
columns = ["title", "body"]
tokenize = "{tokenize}"
blocks = {blocks}
"""
NOTES = {
    "01": ("Term", "a search for something"),
    "02": ("search term", "both words, as a phrase the other way round"),
    "03": ("The term,\nsearch", "a phrase over a line"),
    "04": ("terms searched", "longer words, none of them whole"),
    "05": ("Learn C++", "and C# and c"),
    "06": ('She said "hello there"', "it's O'Hara's l'eau"),
    "07": ("foo-bar", "well-known state-of-the-art"),
    "08": ("foo bar", "input/output and/or, see www.example.org/path/file.txt"),
    "09": ("100% sure", "snake_case and __init__ and 50 %"),
    "10": ("carrots🥕", "🤖bot ✅done 🎮"),
    "11": ("日本語の本", "日本 東京"),
    "12": ("Café École", "naïve résumé"),
    "13": ("cafe ecole", "naive resume"),
    "14": ("NEAR AND OR NOT", "near(x) and the not"),
    "15": ("NEAR(x) (paren) [bold] {brace}", "<tag attr=x> &amp; 3.14 -5 gpt-4 1e5"),
    "16": ("the of a to is", "it was"),
    "17": ("back\\slash", "tab\there \\n"),
    "18": ("", "only a body: term"),
    "19": ("running happily", "runs run happy happyland"),
    "20": ("'; drop table notes; --", "column:value ^start"),
    "21": ("supercalifragilisticexpialidocious", "x" * 300),
}
ALL = frozenset(NOTES)
#: Queries, and the keys of the rows that they match.
QUERIES = {
    "term": {"01", "02", "03", "18"},
    "TERM": {"01", "02", "03", "18"},
    "term search": {"01", "02", "03"},
    "term AND search": {"01", "02", "03"},
    '"term search"': {"03"},
    '"search term"': {"02"},
    "term OR foo": {"01", "02", "03", "07", "08", "18"},
    "term NOT search": {"18"},
    "term -search": {"18"},
    "term*": {"01", "02", "03", "04", "18"},
    '"term sea"*': {"03"},
    "*erm*": {"01", "02", "03", "04", "18"},
    "(term OR foo) -search": {"07", "08", "18"},
    "term OR foo bar": {"01", "02", "03", "07", "08", "18"},
    "NOT (term OR foo)": ALL - {"01", "02", "03", "07", "08", "18"},
    "NOT term": ALL - {"01", "02", "03", "18"},
    "NOT NOT term": {"01", "02", "03", "18"},
    "=term": {"01", "02", "03", "18"},
    "C++": {"05"},
    "C#": {"05"},
    "c": {"05"},
    '"C++"': {"05"},
    "C++ OR foo": {"05", "07", "08"},
    "hello": {"06"},
    '"hello there"': {"06"},
    "hara": {"06"},
    "O'Hara": {"06"},
    "eau": {"06"},
    "foo-bar": {"07"},
    '"foo-bar"': {"07"},
    '"foo bar"': {"07", "08"},
    "known": {"07"},
    "output": {"08"},
    "or": {"08", "14"},
    "example": {"08"},
    "path": {"08"},
    "file": {"08"},
    "100%": {"09"},
    "%": {"09"},
    "_": {"09"},
    "snake": {"09"},
    "case": {"09"},
    "snake_case": {"09"},
    "init": {"09"},
    "__init__": {"09"},
    "🥕": {"10"},
    "🎮": {"10"},
    "bot OR *bot*": {"02", "10"},
    "done": {"10"},
    "日本": {"11"},
    "本": {"11"},
    "東京": {"11"},
    "café": {"12"},
    "cafe": {"13"},
    "CAFé": {"12"},
    "NAÏVE OR naïve": {"12"},
    "near": {"14", "15"},
    "NEAR": {"14", "15"},
    "NEAR(x)": {"14", "15"},
    "NEAR(": {"14", "15"},
    "NEAR(near not": set(),
    "NEAR(near AND not)": set(),
    "NEAR(near (not))": set(),
    "NEAR(near -not)": set(),
    "NEAR(term search)": {"02", "03"},
    "NEAR(term search, 0)": {"02", "03"},
    "NEAR(search term,0)": {"02", "03"},
    "NEAR(longer whole, 4)": {"04"},
    "NEAR(whole longer, 3)": set(),
    "NEAR(longer none whole, 4)": {"04"},
    "NEAR(longer none whole, 3)": set(),
    'NEAR("both words" round, 6)': {"02"},
    'NEAR("both words" round, 5)': set(),
    "NEAR(bot* roun*, 7)": {"02"},
    "NEAR(search body)": set(),
    "NEAR(term phrase)": set(),
    "NEAR(state art, 1) OR NEAR(and or, 0)": {"08", "14"},
    "NEAR(state art, 2)": {"07"},
    "term NOT NEAR(search term, 0)": {"01", "18"},
    "term -NEAR(search term)": {"01", "18"},
    "(NEAR(foo bar, 0) OR NEAR(both words, 0)) -search": {"07", "08"},
    "NEAR(100% sure, 0)": {"09"},
    "NEAR(snake % , 5)": {"09"},
    "NEAR(snake % , 4)": set(),
    "NEAR(東京 日本, 0)": {"11"},
    "NEAR(日 の, 2)": {"11"},
    "NEAR(日 の, 1)": set(),
    "AND": {"05", "08", "09", "14"},
    "OR": {"08", "14"},
    "NOT": {"14"},
    "near AND": {"14"},
    '"AND OR"': {"08", "14"},
    "(paren)": {"15"},
    '"(paren)"': {"15"},
    "(": {"14", "15"},
    ")": {"14", "15"},
    "[bold]": {"15"},
    "tag": {"15"},
    "attr": {"15"},
    "amp": {"15"},
    "14": {"15"},
    "5": {"15"},
    '"-5"': {"15"},
    "4": {"15"},
    "the": {"02", "03", "07", "14", "16"},
    "is": {"16"},
    "a": {"01", "02", "03", "16", "18"},
    "slash": {"17"},
    "\\": {"17"},
    "here": {"17"},
    "run": {"19"},
    "running": {"19"},
    "runnin*": {"19"},
    "happyl*": {"19"},
    "'": {"06", "20"},
    '"': {"06"},
    "'; drop table notes; --": {"20"},
    "column:value": {"20"},
    "^start": {"20"},
    "supercalifragilistic*": {"21"},
    "x" * 300: {"21"},
    "nothing": set(),
    "zork OR NOT": {"14"},
    "*": set(),
    "": ALL,
    " ": ALL,
    '""': ALL,
}
#: Kinds of databases that store texts as a JSON array of blocks, as some apps do.
BLOCKS = {"json"}


def _define_columns(kind: str) -> str:
    return {
        "mysql": "id varchar(20) primary key, title text character set utf8mb4 not null, body text character set utf8mb4 not null"
    }.get(kind, "id text primary key, title text not null, body text not null")


def _create_rows(kind: str) -> list[tuple[str, str, str]]:
    import json

    if kind != "json":
        return [(key, *texts) for key, texts in NOTES.items()]
    return [
        (key, title, json.dumps([{"type": "text", "text": body}], ensure_ascii=False))
        for key, (title, body) in NOTES.items()
    ]


@contextmanager
def _create_database(kind: str, folder: Path) -> Iterator[str]:
    """Create a database with the notes and yield its URL."""
    if kind == "lancedb":
        import lancedb

        rows = [{"id": key, "title": title, "body": body} for key, title, body in _create_rows(kind)]
        lancedb.connect(str(folder / "notes.lance")).create_table("notes", rows)
        yield f"lancedb:{folder}/notes.lance"
    elif kind.startswith("postgresql"):
        with servers.postgresql_schema() as url, closing(servers.connection(url)) as connection:
            connection.execute(f"create table notes ({_define_columns(kind)})")
            with connection.cursor() as cursor:
                cursor.executemany("insert into notes values (%s, %s, %s)", _create_rows(kind))
            yield servers.text(url)
    elif kind.startswith("mysql"):
        with servers.mysql_database() as url, closing(servers.mysql_connection(url)) as mysql:
            with mysql.cursor() as cursor:
                cursor.execute(f"create table notes ({_define_columns('mysql')})")
                cursor.executemany("insert into notes values (%s, %s, %s)", _create_rows(kind))
            mysql.commit()
            yield servers.text(url)
    else:
        path = folder / "notes.db"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute(f"create table notes ({_define_columns(kind)})")
            connection.executemany("insert into notes values (?, ?, ?)", _create_rows(kind))
        yield str(path)


#: Kinds of databases: tokenizer of the index, engine, or read-only access.
KINDS = (
    "unicode61",
    "porter",
    "json",
    "no index",
    "read-only",
    pytest.param("external index", marks=pytest.mark.needs_extension("external_index")),
    "postgresql",
    "postgresql, no index",
    "mysql",
    "mysql, no index",
    pytest.param("lancedb", marks=pytest.mark.needs_extension("lancedb")),
)


@pytest.fixture(scope="module", params=KINDS)
def notebook(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    from dbctl.services.app.session import open_app

    kind: str = request.param
    folder = tmp_path_factory.mktemp("notebook")
    profile = folder / "notebook.toml"
    read_only = kind in ("read-only", "external index")
    tokenize = {"porter": "porter unicode61", "json": "porter unicode61"}.get(kind, "")
    text = TEXT.format(tokenize=tokenize, blocks='["body"]' if kind in BLOCKS else "[]")
    plain = read_only or kind == "lancedb"
    mode = 'mode = "read-only"\nowner = "another program"' if read_only else ""
    profile.write_text(PROFILE.format(mode=mode, text="" if plain else text), encoding="utf-8")
    with _create_database(kind, folder) as url:
        selection = Selection(profile=str(profile), urls=[f"notes={url}"])
        with open_app(selection, timeout=5) as app:
            if kind not in ("no index", "read-only", "lancedb") and "no index" not in kind:
                create_change(app, "notes", "build").apply()
        with open_app(selection, timeout=5) as app:
            yield app


def search_keys(app: App, *words: str, query: str = "") -> set[object]:
    search_request = SearchRequest(words=words, query=query)
    page = search.find(app, "notes", search_request, PageRequest())
    assert page.total == len(page.items) == search.count(app, "notes", search_request).count.total
    return {row["id"] for row in page.items}


def test_queries_return_same_rows_on_every_engine(notebook: App) -> None:
    results = {text: search_keys(notebook, text) for text in QUERIES}
    assert {text: ids for text, ids in results.items() if ids != QUERIES[text]} == {}


def test_query_and_words_have_the_same_language(notebook: App) -> None:
    for text in ("term search", '"term search"', "term OR foo", "NOT term", "C++"):
        assert search_keys(notebook, query=text) == QUERIES[text]
    assert search_keys(notebook, "term", "search") == QUERIES["term search"]
    assert search_keys(notebook, "term", "OR", "foo") == QUERIES["term OR foo"]
    assert search_keys(notebook, "term", query="-search") == QUERIES["term -search"]


def test_columns_do_not_depend_on_words(notebook: App) -> None:
    ranked = search.select_search(notebook, "notes").text is not None
    expected_names = ["id", "title", *(["score", "snippet"] if ranked else [])]
    for text in ("term", "C++", "🥕", "日本", "NOT term", "zork", "*erm*", "the", "x" * 300):
        page = search.find(notebook, "notes", SearchRequest(words=[text]), PageRequest())
        assert list(page.column_names) == expected_names
        assert all(list(row) == expected_names for row in page.items)
        if ranked:
            for columns in (["score"], ["snippet"], ["id", "score"]):
                page = search.find(
                    notebook, "notes", SearchRequest(words=[text]), PageRequest(), columns=columns
                )
                assert list(page.column_names) == columns


def test_pages_cover_all_matches(notebook: App) -> None:
    all_ids = [
        row["id"]
        for row in search.find(notebook, "notes", SearchRequest(words=["term*"]), PageRequest()).items
    ]
    pages = [
        search.find(notebook, "notes", SearchRequest(words=["term*"]), PageRequest(limit=2, offset=offset))
        for offset in (0, 2, 4, 6)
    ]
    assert [row["id"] for page in pages for row in page.items] == all_ids
    assert {page.total for page in pages} == {5}


@pytest.mark.parametrize(
    "text", ["x" * 50_000, "a\0b", "\udcff", " ".join(["x"] * 101), '"' + "x" * 50_000 + '"']
)
def test_unsearchable_text_is_refused_by_every_engine(notebook: App, text: str) -> None:
    with pytest.raises(ValueInvalidError):
        search_keys(notebook, text)


def test_words_of_json_keys_are_not_found(notebook: App) -> None:
    assert search_keys(notebook, "text") == set()
    assert search_keys(notebook, "type") == set()


# Query language -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside_words", [False, True])
@pytest.mark.parametrize(
    "text",
    [*QUERIES, '((a OR b) NOT "c d"*) OR -(e f)', "()", "(()", "-", "--", 'NOT ""', "a OR OR b", '="a b"'],
)
def test_written_query_is_parsed_to_same_query(text: str, inside_words: bool) -> None:
    query = parse_text(text, inside_words=inside_words)
    assert parse_text(write_text(query, inside_words=inside_words), inside_words=inside_words) == query


@pytest.mark.parametrize("inside_words", [False, True])
def test_terms_of_near_are_written_with_their_quotes(inside_words: bool) -> None:
    text = 'NEAR("a (b)" =c "d, 5" "e f"* plan*, 7)'
    query = parse_text(text, inside_words=inside_words)
    assert isinstance(query, TextNear)
    assert (len(query.terms), query.distance) == (5, 7)
    assert parse_text(write_text(query, inside_words=inside_words), inside_words=inside_words) == query


def test_sign_of_a_whole_word_before_a_parenthesis_is_a_word(notebook: App) -> None:
    assert parse_text("(=)") == TextTerm(("=",), "word")
    assert search_keys(notebook, "(term =)") == set()


def test_terms_of_near_are_limited() -> None:
    with pytest.raises(ValueInvalidError):
        parse_text(f"NEAR({' '.join(['x'] * 101)}, 5)")


WORDS = st.sampled_from(["a", "b", "c", "ab"])
PHRASES = st.lists(WORDS, min_size=1, max_size=2).map(lambda words: f'"{" ".join(words)}"')
PHRASES_AND_PREFIXES = st.builds(lambda text, prefix: text + "*" * prefix, PHRASES, st.booleans())


@settings(max_examples=5 * settings.default.max_examples)
@given(
    text=st.lists(WORDS, min_size=1, max_size=14).map(" ".join),
    phrases=st.lists(PHRASES_AND_PREFIXES, min_size=2, max_size=3).map(" ".join),
    distance=st.integers(0, 6),
)
def test_near_means_the_same_as_in_fts5(text: str, phrases: str, distance: int) -> None:
    query = parse_text(f"NEAR({phrases}, {distance})")
    assert query is not None
    matcher = TextMatcher(query)
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create virtual table f using fts5(t)")
        connection.execute("insert into f values (?)", (text,))
        sql = "select count(*) from f where f match ?"
        ((matched,),) = connection.execute(sql, (f"NEAR({phrases}, {distance})",)).fetchall()
    assert matcher.matches([text]) == bool(matched)
    assert bool(matcher.find_ranges(text)) == bool(matched)


def test_only_near_words_are_marked() -> None:
    text = "plant a b c d e pot plant and pot"
    matcher = TextMatcher(TextNear((TextTerm(("plant",), "word"), TextTerm(("pot",), "word")), 1))
    assert [text[begin:end] for begin, end in matcher.find_ranges(text)] == ["pot", "plant", "pot"]
    assert matcher.find_ranges(text)[0] == (16, 19)


def test_deeply_nested_parentheses_are_refused() -> None:
    with pytest.raises(ValueInvalidError):
        parse_text("(" * 5_000 + "a" + ")" * 5_000)


def test_fts5_returns_every_row_that_the_matcher_accepts() -> None:
    """Test every Unicode character next to two words and between them."""
    import unicodedata

    characters = [
        chr(number)
        for number in range(1, sys.maxunicode + 1)
        if unicodedata.category(chr(number)) not in ("Cn", "Cs", "Co")
        and not (0x3400 <= number <= 0x9FFF or 0xAC00 <= number <= 0xD7AF or 0x17000 <= number <= 0x3FFFF)
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create virtual table f using fts5(t)")
        for prefix, between, suffix in (("{}", " ", ""), ("", " ", "{}"), ("", "{}", ""), ("", " {} ", "")):
            texts = [f"{prefix}foo{between}bar{suffix}".format(character) for character in characters]
            connection.execute("delete from f")
            connection.executemany("insert into f (t) values (?)", ((text,) for text in texts))
            matched = {row[0] for row in connection.execute("select t from f where f match '\"foo bar\"'")}
            matcher = TextMatcher(parse_text('"foo bar"'))  # type: ignore[arg-type]  # not None
            assert [text for text in texts if matcher.matches([text]) and text not in matched] == []


@pytest.mark.parametrize(
    "text",
    ["term", "term search", '"term search"', "term OR foo", "C++", "term NOT search", "NEAR(term search, 0)"],
)
def test_full_text_index_reduces_compared_rows(
    notebook: App, request: pytest.FixtureRequest, text: str
) -> None:
    kind = request.node.callspec.params["notebook"]
    if kind in ("unicode61", "porter", "json"):
        explanation = search.explain(notebook, "notes", SearchRequest(words=[text]), PageRequest())
        assert any("VIRTUAL TABLE INDEX" in step.step for step in explanation.plan)
