"""TOML files: every mistake with its line and key."""

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


def mistakes(text, kind=Outer):
    with pytest.raises(toml.TomlError) as caught:
        toml.structure(toml.loads(text), kind, text)
    return [(one.line, one.key, one.reason) for one in caught.value.mistakes]


def refused(text):
    with pytest.raises(toml.TomlError) as caught:
        toml.loads(text)
    (one,) = caught.value.mistakes
    return one.line, one.reason


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a = 1\n\na = 2\n", 3, "this key is there already"),
        ("[a]\n[b]\n[a]\n", 3, "this table is there already"),
        ("a = {b = 1, b = 2}\n", 1, "there already is a key 'b'"),
        ("[a\n", 1, "expected ']'"),
        ("a = [1,\n2\n", 3, "unclosed array"),
        ("\n\na = 1 b = 2\n", 3, "expected newline"),
    ],
)
def test_what_is_no_toml_is_told_with_its_line(text, line, words):
    assert refused(text)[0] == line
    assert words in refused(text)[1]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\na" + ".a" * 50_000 + " = 1\n", 2),
        ("[a" + ".'b'" * 50_000 + "]\n", 1),
        ("x = {y" + ' . "z"' * 50_000 + " = 1}\n", 1),
        ("\n\na = " + "9" * 5_000 + "\n", 3),
        ("a = 1\n" + "# " + "x" * toml.MOST_CHARACTERS, 1),
    ],
    ids=["key", "header", "inline table", "digits", "length"],
)
def test_text_that_needs_unbounded_work_is_refused_with_its_line(text, line):
    assert refused(text)[0] == line


def test_as_many_parts_as_are_allowed_are_read():
    value = toml.loads("a" + ".a" * (toml.MOST_PARTS - 1) + " = 1")
    for _ in range(toml.MOST_PARTS):
        value = value["a"]
    assert value == 1


def test_of_fifty_thousand_mistakes_the_first_are_listed():
    found = mistakes("name = 'x'\n" + "".join(f"k{number}.b = 1\n" for number in range(50_000)))
    assert [line for line, _, _ in found[: toml.MOST_MISTAKES]] == list(range(2, toml.MOST_MISTAKES + 2))
    assert len(found) == toml.MOST_MISTAKES + 1


def test_a_thousand_open_brackets_are_a_mistake_like_any_other():
    assert refused("a = " + "[" * 100_000) == (1, "it is nested too deeply")


def test_a_file_may_begin_with_a_mark_of_its_byte_order_and_end_its_lines_as_windows_does(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    assert toml.load(path) == ({"a": 1, "b": 2}, "a = 1\nb = 2\n")


def test_a_file_in_another_encoding_is_refused_at_the_line_where_that_shows(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b'a = 1\nb = "\xff"\n')
    with pytest.raises(toml.TomlError) as caught:
        toml.load(path)
    assert caught.value.mistakes == (toml.Mistake(2, "TOML", "it is not UTF-8"),)


def test_every_mistake_is_told_at_once_in_the_order_of_its_line():
    text = 'nam = "x"\n[inner]\nsize = "big"\n[[many]]\ntable = "t"\n[[many]]\nsiez = 1\n[map]\na = "b"\n'
    assert mistakes(text) == [
        (1, "name", "it is missing"),
        (1, "nam", "unknown key; did you mean name?"),
        (2, "inner.table", "it is missing"),
        (3, "inner.size", "'big' is no whole number"),
        (6, "many[1].table", "it is missing"),
        (7, "many[1].siez", "unknown key; did you mean size?"),
        (9, "map.a", "'b' is no whole number"),
    ]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("name = 1", (1, "name", "1 is no text")),
        ("name = 'x'\nkind = 3", (2, "kind", "3 is no text or list")),
        ("name = 'x'\nkind = ['a', 3]", (2, "kind[1]", "3 is no text")),
        ("name = 'x'\ninner = 3", (2, "inner", "3 is no table")),
        ("name = 'x'\nmany = {}", (2, "many", "{} is no list")),
        (
            "name = 'x'\n# many = 3\n\nmany = [\n  {table = 'a'},\n  {},\n]",
            (4, "many[1].table", "it is missing"),
        ),
        ("name = 'x'\n\n[zzz]\ntable = 3", (3, "zzz", "unknown key; known: name, kind, inner, many, map")),
        ("name = '''\nkind = 1\n'''\nkind = 2", (4, "kind", "2 is no text or list")),
        ("name = 'x'\n'inner'.table = 'a'\ninner.size = '1'", (3, "inner.size", "'1' is no whole number")),
    ],
)
def test_a_mistake_is_told_at_its_own_line_and_key(text, mistake):
    assert mistakes(text) == [mistake]


def test_a_long_wrong_value_is_not_told_whole():
    ((_, _, reason),) = mistakes("name = 'x'\nmany = '" + "y" * 5000 + "'")
    assert len(reason) < 80


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
)
def test_any_text_is_written_so_that_toml_reads_it_back(text, key):
    line = f"{toml.quoted(key)} = {toml.quoted(text, value=True)}"
    assert tomllib.loads(line) == {key: text}
    assert toml.quoted(key).isprintable()


@given(st.text(), st.lists(st.text() | st.integers(0, 5)))
def test_the_line_of_anything_is_a_line_of_the_text(text, path):
    assert 1 <= toml.line_of(text, path) <= max(1, len(text.splitlines()))
