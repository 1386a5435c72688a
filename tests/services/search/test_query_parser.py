"""The query language: the launcher's grammar, and invalid queries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.errors.usage import UsageError, ValueInvalidError
from dbctl.services.search.query_parser import (
    MAX_TERMS,
    MAX_WORD_LENGTH,
    Key,
    Term,
    check_text,
    parse_filter,
    parse_query,
    write_query,
)

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


def parse(text: str) -> tuple[Term, ...]:
    return parse_query(text, KEYS, PREFIXES)


def create_word(text: str, *, negated: bool = False) -> Term:
    return Term(None, "contains", text, negated)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("", ()),
        ("   ", ()),
        ('""', ()),
        ("mad  dog", (create_word("mad"), create_word("dog"))),
        ('"mad dog" x', (create_word("mad dog"), create_word("x"))),
        ("mad\tdog", (create_word("mad\tdog"),)),
        ("it's", (create_word("it's"),)),
        ('foo"bar baz"', (create_word('foo"bar'), create_word('baz"'))),
    ],
)
def test_words_are_split_at_unquoted_spaces(text: str, terms: tuple[Term, ...]) -> None:
    assert parse(text) == terms


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("-dog", create_word("dog", negated=True)),
        ('-"mad dog"', create_word("mad dog", negated=True)),
        ("--dog", create_word("-dog", negated=True)),
        ("-title:dog", Term("title", "contains", "dog", negated=True)),
        ("-#Puzzle", Term("tag", "contains", "Puzzle", negated=True)),
        ("-da<2020", Term("dateadded", "<", "2020", negated=True)),
        ("-tags:2", Term("tags", "exact", 2, negated=True)),
        ("-", create_word("-")),
        ('"-dog"', create_word("-dog")),
    ],
)
def test_leading_hyphen_negates(text: str, term: Term) -> None:
    assert parse(text) == (term,)


def test_single_hyphen_is_a_word() -> None:
    assert parse("- dog") == (create_word("-"), create_word("dog"))


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("#Puzzle", Term("tag", "contains", "Puzzle")),
        ('#"Tower Defense"', Term("tag", "contains", "Tower Defense")),
        ("@x:y", Term("developer", "contains", "x:y")),
        ("#-1", Term("tag", "contains", "-1")),
        ('#""', Term("tag", "exact", "")),
        ("#", create_word("#")),
        ("-#", create_word("#", negated=True)),
        ('"#Puzzle"', create_word("#Puzzle")),
    ],
)
def test_prefix_is_an_abbreviation_of_its_key(text: str, term: Term) -> None:
    assert parse(text) == (term,)


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
def test_first_operator_separates_key_and_value(text: str, term: Term) -> None:
    assert parse(text) == (term,)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("http://x", create_word("http://x")),
        ("-unk:x", create_word("unk:x", negated=True)),
        ('unk:"a b"', create_word("unk:a b")),
        ("unk:", create_word("unk:")),
        ("<3", create_word("<3")),
        ('"title:dog"', create_word("title:dog")),
    ],
)
def test_term_with_unknown_key_is_a_word(text: str, term: Term) -> None:
    assert parse(text) == (term,)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ('"mad dog', (create_word("mad dog"),)),
        ('a title:"mad dog', (create_word("a"), Term("title", "contains", "mad dog"))),
        ('"a"b c" d', (create_word('a"b c'), create_word("d"))),
        ('"', ()),
        ('"""', (create_word('"'),)),
    ],
)
def test_quotation_ends_before_space_or_end(text: str, terms: tuple[Term, ...]) -> None:
    assert parse(text) == terms


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
def test_durations_are_evaluated(text: str, number: float) -> None:
    (term,) = parse(f"pt>{text}")
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
        ("tags>1h", "a number is required"),
        ("size:x", "a number is required"),
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
def test_invalid_values_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueInvalidError, match=reason):
        parse(text)


@pytest.mark.parametrize(
    "text", ["x" * (MAX_WORD_LENGTH + 1), f"title:{'%' * 60_000}", f"unk:{'_' * 60_000}", "#" * 60_000]
)
def test_too_long_words_are_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="longer than 5,000"):
        parse(text)


@pytest.mark.parametrize("text", ["a\0b", "title:a\0b", "a\ud800", "dev=\udcff", "#\udcff"])
def test_unstorable_text_is_refused(text: str) -> None:
    with pytest.raises(ValueInvalidError, match="not text"):
        parse(text)


def test_longest_word_is_accepted() -> None:
    assert check_text("x" * MAX_WORD_LENGTH)


def test_number_of_terms_is_limited() -> None:
    assert len(parse("x " * MAX_TERMS)) == MAX_TERMS
    with pytest.raises(ValueInvalidError, match="101 terms"):
        parse("x " * (MAX_TERMS + 1))


def test_query_without_keys_has_only_words() -> None:
    assert parse_query("-title:dog #x", {}) == (create_word("title:dog", negated=True), create_word("#x"))


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
def test_filter_value_extends_to_the_end(text: str, term: Term) -> None:
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
def test_filters_without_key_or_value_are_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_filter(text, KEYS)


def test_unknown_filter_key_has_suggestion() -> None:
    with pytest.raises(UsageError, match="known: title, developer, tag") as raised:
        parse_filter("titel=x", KEYS)
    assert "'title'" in raised.value.hint


#: Characters of the grammar and others, so that random text covers the grammar.
GRAMMAR = st.text(alphabet='ab01 "-:=<>#@()+*/.hmM%_\\é', max_size=40)
PIECES = st.lists(
    st.sampled_from(
        [*KEYS, *":=<>-#@", '"', '""', " ", "  ", "2005", "1h30m", "yes", "x", "a b", "2020-01", "1.5", "(2)"]
    ),
    max_size=12,
).map("".join)


@given(st.one_of(st.text(), st.text(alphabet=st.characters()), GRAMMAR, PIECES))
def test_any_text_is_refused_or_survives_round_trip(text: str) -> None:
    try:
        terms = parse(text)
    except ValueInvalidError:
        return
    assert parse_query(write_query(terms, PREFIXES), KEYS, PREFIXES) == terms


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters='\0"'), min_size=1))
def test_any_unquoted_text_is_a_word_or_value(text: str) -> None:
    assert parse(f'"{text}" title="{text}" -#"{text}"') == (
        create_word(text),
        Term("title", "exact", text),
        Term("tag", "contains", text, negated=True),
    )


@given(
    st.integers(-(2**63) + 1, 2**63 - 1) | st.integers(-(10**15), 10**15).map(lambda number: number / 2**6)
)
def test_numbers_survive_round_trip(number: float) -> None:
    term = Term("size", "<", round(number, 6))
    (parsed,) = parse(write_query([term]))
    assert parsed == term
