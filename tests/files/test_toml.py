"""TOML files: every error is reported with line and key."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.files import toml


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    table: str
    size: int = 0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    kind: str | list[str] = ""
    inner: Inner | None = None
    many: Sequence[Inner] = ()
    map: Mapping[str, int] = {}


def find_problems(text, kind=Outer):
    with pytest.raises(toml.TomlError) as caught:
        toml.structure(toml.loads(text), kind, text)
    return [(problem.line, problem.key, problem.reason) for problem in caught.value.problems]


def parse_error(text):
    with pytest.raises(toml.TomlError) as caught:
        toml.loads(text)
    (problem,) = caught.value.problems
    return problem.line, problem.reason


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = 1\n\na = 2\n", 3, "this key exists already"),
        ("[a]\n[b]\n[a]\n", 3, "this table exists already"),
        ("a = {b = 1, b = 2}\n", 1, "duplicate key 'b'"),
        ("[a\n", 1, "expected ']'"),
        ("a = [1,\n2\n", 3, "unclosed array"),
        ("\n\na = 1 b = 2\n", 3, "expected newline"),
    ],
)
def test_invalid_toml_is_reported_with_line(text, line, words):
    assert parse_error(text)[0] == line
    assert words in parse_error(text)[1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\na" + ".a" * 50_000 + " = 1\n", 2),
        ("[a" + ".'b'" * 50_000 + "]\n", 1),
        ("x = {y" + ' . "z"' * 50_000 + " = 1}\n", 1),
        ("\n\na = " + "9" * 5_000 + "\n", 3),
        ("a = 1\n" + "# " + "x" * toml.MAX_CHARACTERS, 1),
    ],
    ids=["key", "header", "inline table", "digits", "length"],
)
def test_excessive_input_is_refused_with_line(text, line):
    assert parse_error(text)[0] == line


def test_maximum_key_parts_are_accepted():
    value = toml.loads("a" + ".a" * (toml.MAX_KEY_PARTS - 1) + " = 1")
    for _ in range(toml.MAX_KEY_PARTS):
        value = value["a"]
    assert value == 1


@pytest.mark.slow
def test_only_first_problems_are_listed():
    reported = find_problems("name = 'x'\n" + "".join(f"k{number}.b = 1\n" for number in range(50_000)))
    assert [line for line, _, _ in reported[: toml.MAX_PROBLEMS]] == list(range(2, toml.MAX_PROBLEMS + 2))
    assert len(reported) == toml.MAX_PROBLEMS + 1


def test_deep_nesting_is_refused():
    assert parse_error("a = " + "[" * 100_000) == (1, "it is nested too deeply")


def test_bom_and_crlf_are_accepted(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert toml.read_text(path) == "a = 1\nb = 2\n"


def test_invalid_utf8_is_reported_with_line(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b'a = 1\nb = "\xff"\n')
    with pytest.raises(toml.TomlError) as caught:
        toml.read_text(path)
    assert caught.value.problems == (toml.Problem(2, "TOML", "it is not UTF-8"),)


def test_all_problems_are_reported_in_line_order():
    text = 'nam = "x"\n[inner]\nsize = "big"\n[[many]]\ntable = "t"\n[[many]]\nsiez = 1\n[map]\na = "b"\n'
    assert find_problems(text) == [
        (1, "name", "it is missing"),
        (1, "nam", "unknown key (did you mean 'name'?)"),
        (2, "inner.table", "it is missing"),
        (3, "inner.size", "must be a whole number, not 'big'"),
        (6, "many[1].table", "it is missing"),
        (7, "many[1].siez", "unknown key (did you mean 'size'?)"),
        (9, "map.a", "must be a whole number, not 'b'"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = 1", (1, "name", "must be text, not 1")),
        ("name = true", (1, "name", "must be text, not true")),
        ("name = 2026-11-22", (1, "name", "must be text, not a time")),
        ("name = 'x'\nmany = 'curl --token=pw'", (2, "many", "must be a list, not text")),
        ("name = 'x'\nkind = 3", (2, "kind", "must be text or a list, not 3")),
        ("name = 'x'\nkind = ['a', 3]", (2, "kind[1]", "must be text, not 3")),
        ("name = 'x'\ninner = 3", (2, "inner", "must be a table, not 3")),
        ("name = 'x'\nmany = {}", (2, "many", "must be a list, not a table")),
        (
            "name = 'x'\n# many = 3\n\nmany = [\n  {table = 'a'},\n  {},\n]",
            (4, "many[1].table", "it is missing"),
        ),
        ("name = 'x'\n\n[zzz]\ntable = 3", (3, "zzz", "unknown key; known: name, kind, inner, many, map")),
        ("name = 'x'\ninner = 'x://u:pw@h'", (2, "inner", "must be a table, not text")),
        ("name = 'x'\ninner = ['pw']", (2, "inner", "must be a table, not a list")),
        ("name = '''\nkind = 1\n'''\nkind = 2", (4, "kind", "must be text or a list, not 2")),
        (
            "name = 'x'\n'inner'.table = 'a'\ninner.size = '1'",
            (3, "inner.size", "must be a whole number, not '1'"),
        ),
    ],
)
def test_problem_is_reported_with_line_and_key(text, problem):
    assert find_problems(text) == [problem]


def test_long_wrong_value_is_shortened():
    ((_, _, reason),) = find_problems("name = 'x'\nmany = '" + "y" * 5000 + "'")
    assert len(reason) < 80


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_quoted_text_round_trips(text, key):
    line = f"{toml.quoted(key)} = {toml.quoted(text, value=True)}"
    assert tomllib.loads(line) == {key: text}
    assert toml.quoted(key).isprintable()


@given(st.text(), st.lists(st.text() | st.integers(0, 5)))
def test_line_is_always_within_text(text, path):
    assert 1 <= toml.line_of(text, path) <= max(1, len(text.splitlines()))
