"""The query language: the launcher's grammar, and what it refuses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors import UsageError, ValueInvalidError
from dbctl.services.search.query_parser import MOST_TERMS, Term, parse, parse_filter, render
from dbctl.services.search.query_values import LONGEST_WORD, Key, checked

KEYS = {
    spelling: Key(name, kind)
    for name, kind, spellings in [
        ("title", "text", ["title"]),
        ("developer", "text", ["developer", "dev"]),
        ("tag", "text", ["tag"]),
        ("tags", "count", ["tags"]),
        ("size", "number", ["size"]),
        ("playtime", "duration", ["playtime", "pt"]),
        ("dateadded", "date", ["dateadded", "da"]),
        ("installed", "boolean", ["installed"]),
    ]
    for spelling in spellings
}
PREFIXES = {"#": "tag", "@": "developer"}


def read(text: str) -> tuple[Term, ...]:
    return parse(text, KEYS, PREFIXES)


def word(text: str, *, negated: bool = False) -> Term:
    return Term(None, "contains", text, negated)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ('""', ()),
        ("mad  dog", (word("mad"), word("dog"))),
        ('"mad dog" x', (word("mad dog"), word("x"))),
        ("mad\tdog", (word("mad\tdog"),)),
        ("it's", (word("it's"),)),
        ('foo"bar baz"', (word('foo"bar'), word('baz"'))),
    ],
)
def test_words_part_at_spaces_unless_quoted(text: str, terms: tuple[Term, ...]) -> None:
    assert read(text) == terms


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("-dog", word("dog", negated=True)),
        ('-"mad dog"', word("mad dog", negated=True)),
        ("--dog", word("-dog", negated=True)),
        ("-title:dog", Term("title", "contains", "dog", negated=True)),
        ("-#Puzzle", Term("tag", "contains", "Puzzle", negated=True)),
        ("-da<2020", Term("dateadded", "<", "2020", negated=True)),
        ("-tags:2", Term("tags", "exact", 2, negated=True)),
        ("-", word("-")),
        ('"-dog"', word("-dog")),
    ],
)
def test_a_hyphen_in_front_negates(text: str, term: Term) -> None:
    assert read(text) == (term,)


def test_a_hyphen_alone_is_a_word() -> None:
    assert read("- dog") == (word("-"), word("dog"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("#Puzzle", Term("tag", "contains", "Puzzle")),
        ('#"Tower Defense"', Term("tag", "contains", "Tower Defense")),
        ("@x:y", Term("developer", "contains", "x:y")),
        ("#-1", Term("tag", "contains", "-1")),
        ('#""', Term("tag", "exact", "")),
        ("#", word("#")),
        ("-#", word("#", negated=True)),
        ('"#Puzzle"', word("#Puzzle")),
    ],
)
def test_a_quick_prefix_stands_for_its_key(text: str, term: Term) -> None:
    assert read(text) == (term,)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("title:dog", Term("title", "contains", "dog")),
        ("title=dog", Term("title", "exact", "dog")),
        ("TITLE:Dog", Term("title", "contains", "Dog")),
        ("dev:x", Term("developer", "contains", "x")),
        ("title:a=b", Term("title", "contains", "a=b")),
        ("title=a:b", Term("title", "exact", "a:b")),
        ("title:-x", Term("title", "contains", "-x")),
        ("title:#x", Term("title", "contains", "#x")),
        ('title:""', Term("title", "exact", "")),
        ('title=""', Term("title", "exact", "")),
        ('title:"mad dog"', Term("title", "contains", "mad dog")),
        ("tags<3", Term("tags", "<", 3)),
        ("tags=3", Term("tags", "exact", 3)),
        ("tags:3", Term("tags", "exact", 3)),
        ("da:2020-01", Term("dateadded", "exact", "2020-01")),
        ("da>2020", Term("dateadded", ">", "2020")),
        ('da:""', Term("dateadded", "exact", "")),
        ("installed:YES", Term("installed", "exact", value=True)),
        ("installed=0", Term("installed", "exact", value=False)),
        ("-installed:no", Term("installed", "exact", value=False, negated=True)),
    ],
)
def test_the_first_sign_parts_key_from_value(text: str, term: Term) -> None:
    assert read(text) == (term,)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("http://x", word("http://x")),
        ("-unk:x", word("unk:x", negated=True)),
        ('unk:"a b"', word("unk:a b")),
        ("unk:", word("unk:")),
        ("<3", word("<3")),
        ('"title:dog"', word("title:dog")),
    ],
)
def test_an_unknown_key_makes_the_whole_a_word(text: str, term: Term) -> None:
    assert read(text) == (term,)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ('"mad dog', (word("mad dog"),)),
        ('a title:"mad dog', (word("a"), Term("title", "contains", "mad dog"))),
        ('"a"b c" d', (word('a"b c'), word("d"))),
        ('"', ()),
        ('"""', (word('"'),)),
    ],
)
def test_a_quote_ends_before_a_space_or_at_the_end_of_the_text(text: str, terms: tuple[Term, ...]) -> None:
    assert read(text) == terms


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("90", 90),
        ("1h30m", 5400),
        ("1h30", 3630),
        ("1.5h", 5400),
        (".5m", 30),
        ("1d2h", 93_600),
        ("1y", 31_536_000),
        ("1M", 2_592_000),
        ("1w", 604_800),
        ("2*45m", 5400),
        ("(1+2)*3", 9),
        ("1+2*3", 7),
        ("9-2-3", 4),
        ("7/2", 3.5),
        ("-5", -5),
        ("--5", 5),
        ('"1h + 30m"', 5400),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_durations_are_reckoned(text: str, number: float) -> None:
    (term,) = read(f"pt>{text}")
    assert (term.value, type(term.value)) == (number, type(number))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pt>abc", "a duration is written"),
        ("pt>1x", "a duration is written"),
        ("pt>1h)", "a duration is written"),
        ("pt>(1", "not closed"),
        ("pt>1/0", "divides by zero"),
        ("pt>9223372036854775808", "larger than any number"),
        ("pt>" + "9" * 101, "too long"),
        ("pt>" + "(" * 101, "too long"),
        ("pt>" + "9" * 4400, "too long"),
        ('pt:""', "a duration is written"),
        ("pt>٣", "a duration is written"),
        ("tags>1h", "a number is wanted"),
        ("size:x", "a number is wanted"),
        ("da>7d", "a date is written"),
        ("da:yesterday", "a date is written"),
        ("da:2020-1-1-1", "a date is written"),
        ("installed:maybe", "yes or no"),
        ('installed:""', "yes or no"),
        ("title>5", "only numbers and dates"),
        ("installed<1", "only numbers and dates"),
        ("title:", "missing"),
        ("title=", "missing"),
        ("pt>", "missing"),
        ("-dev: x", "missing"),
    ],
)
def test_a_value_that_does_not_suit_its_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueInvalidError, match=reason):
        read(text)


@pytest.mark.parametrize(
    "text", ["x" * (LONGEST_WORD + 1), f"title:{'%' * 60_000}", f"unk:{'_' * 60_000}", "#" * 60_000]
)
def test_a_word_longer_than_databases_look_for_is_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="longer than 5,000"):
        read(text)


@pytest.mark.parametrize("text", ["a\0b", "title:a\0b", "a\ud800", "dev=\udcff", "#\udcff"])
def test_what_no_database_stores_as_text_is_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="not text"):
        read(text)


def test_the_longest_word_passes() -> None:
    assert checked("x" * LONGEST_WORD)


def test_the_number_of_terms_is_bounded() -> None:
    assert len(read("x " * MOST_TERMS)) == MOST_TERMS
    with pytest.raises(ValueInvalidError, match="101 terms"):
        read("x " * (MOST_TERMS + 1))


def test_without_keys_only_words_are_left() -> None:
    assert parse("-title:dog #x", {}) == (word("title:dog", negated=True), word("#x"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("title=mad dog", Term("title", "exact", "mad dog")),
        ('TITLE:"x', Term("title", "contains", '"x')),
        ("-dev=a=b", Term("developer", "exact", "a=b", negated=True)),
        ("title=", Term("title", "exact", "")),
        ("da=", Term("dateadded", "exact", "")),
        ("pt>1h", Term("playtime", ">", 3600)),
        ("title=-x", Term("title", "exact", "-x")),
    ],
)
def test_a_filter_is_one_condition_whose_value_is_all_behind_the_sign(text: str, term: Term) -> None:
    assert parse_filter(text, KEYS) == term


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x", UsageError),
        ("unk=1", UsageError),
        ("titel=x", UsageError),
        ("title:", ValueInvalidError),
        ("pt=", ValueInvalidError),
        ("pt<x", ValueInvalidError),
    ],
)
def test_a_filter_that_names_no_key_or_no_value_is_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_filter(text, KEYS)


def test_an_unknown_key_of_a_filter_is_answered_with_what_was_perhaps_meant() -> None:
    with pytest.raises(UsageError, match=r"did you mean title\?\); known: title, developer, tag"):
        parse_filter("titel=x", KEYS)


#: Characters that mean something, and some that do not, so that random text hits the grammar.
GRAMMAR = st.text(alphabet='ab01 "-:=<>#@()+*/.hmM%_\\é', max_size=40)
PIECES = st.lists(
    st.sampled_from(
        [*KEYS, *":=<>-#@", '"', '""', " ", "  ", "2005", "1h30m", "yes", "x", "a b", "2020-01", "1.5", "(2)"]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), st.text(alphabet=st.characters()), GRAMMAR, PIECES))
def test_any_text_is_read_or_refused_and_reads_the_same_when_written_again(text: str) -> None:
    try:
        terms = read(text)
    except ValueInvalidError:
        return
    assert parse(render(terms, PREFIXES), KEYS, PREFIXES) == terms


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters='\0"'), min_size=1))
def test_any_text_without_quotes_can_be_asked_for_as_a_word_and_as_a_value(text: str) -> None:
    assert read(f'"{text}" title="{text}" -#"{text}"') == (
        word(text),
        Term("title", "exact", text),
        Term("tag", "contains", text, negated=True),
    )


@given(
    st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**15), 10**15).map(lambda number: number / 2**6)
)
def test_any_number_survives_being_written(number: float) -> None:
    term = Term("size", "<", round(number, 6))
    (again,) = read(render([term]))
    assert again == term
