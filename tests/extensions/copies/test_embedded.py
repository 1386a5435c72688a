"""Texts inside serialized values: what is not replaced remains byte for byte, and what is replaced is read again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.extensions.copies.embedded import UnreadableTextError, rewrite_texts
from dbctl.profiles.php import dump_php, load_php

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    [
        "http://old.example/a",
        "é\U0001f600old",
        'a:1:{s:1:"x";i:1;}',
        '{"a":"old"}',
        "[]",
        '"',
        "\\",
        "\0*\0name",
    ]
)
VALUES = st.recursive(
    TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
CONTAINERS = st.lists(VALUES, max_size=4) | st.dictionaries(TEXTS, VALUES, max_size=4)


def read_texts(value: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    rewrite_texts(value, lambda text, path: texts.setdefault(path, text))
    return texts


def replace_in(value: object, old: str, new: str) -> object:
    """Replace a text in a value without serialized texts."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [replace_in(item, old, new) for item in value]
    if isinstance(value, dict):
        return {key: replace_in(item, old, new) for key, item in value.items()}
    return value


@given(CONTAINERS, st.booleans(), st.sampled_from([None, 2]))
def test_json_without_replacements_is_unchanged(value, ascii_only, indent):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent).replace("/", "\\/")
    assert rewrite_texts(text, lambda text, _: text) == text


@given(CONTAINERS)
def test_php_without_replacements_is_unchanged(value):
    text = dump_php(value)
    assert rewrite_texts(text, lambda text, _: text) == text


@given(st.text())
def test_other_text_is_one_text_or_has_none(value):
    assert rewrite_texts(value, lambda text, _: text, unreadable=lambda text, _: text) == value


@given(
    st.lists(VALUES.filter(lambda value: not isinstance(value, str)), max_size=4),
    st.booleans(),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
def test_all_texts_are_replaced_at_every_level(value, ascii_only, new):
    """Each text gets a suffix, so that no text is serialized afterwards that was not before."""

    def add(text: str, _path: str) -> str:
        return text + new

    def add_to(item: object) -> object:
        if isinstance(item, str):
            return rewrite_texts(item, add)
        if isinstance(item, list):
            return [add_to(part) for part in item]
        if isinstance(item, dict):
            return {key: add_to(part) for key, part in item.items()}
        return item

    assert json.loads(rewrite_texts(json.dumps(value, ensure_ascii=ascii_only), add)) == add_to(value)
    written = dump_php(value)
    assert rewrite_texts(written, add) == dump_php(add_to(value))


@given(
    st.dictionaries(st.text(max_size=5), st.text(st.sampled_from('old/é"\\\n'), max_size=9)),
    st.sampled_from(["", 'né"w', "/"]),
)
def test_replacement_in_json_inside_php_inside_json(value, new):
    def replace(text: str, _path: str) -> str:
        return text.replace("old", new)

    text = json.dumps({"a": dump_php({"b": json.dumps(value).replace("/", "\\/")})})
    result = json.loads(rewrite_texts(text, replace))
    expected = {key: rewrite_texts(item, replace) for key, item in value.items()}
    assert json.loads(load_php(result["a"])["b"]) == expected


def test_paths_are_keys_and_stars():
    text = dump_php(
        {"mail": {"value": "a"}, "list": ["b", {"x": "c"}], "json": json.dumps({"k": [{"v": "d"}, "e"]})}
    )
    assert read_texts(text) == {
        "mail.value": "a",
        "list.*": "b",
        "list.*.x": "c",
        "json.k.*.v": "d",
        "json.k.*": "e",
    }
    assert read_texts('{"a": {}, "b": {"c": [[]], "d": "x"}, "e": "y"}') == {"b.d": "x", "e": "y"}
    assert read_texts("plain") == {"": "plain"}
    assert read_texts('"a\\/b"') == {"": "a/b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"u":"http:\\/\\/old\\/\\u00E9"}', '{"u":"http:\\/\\/new/\\u00E9"}'.replace("new/", "new\\/")),
        ('{"old":"old", "n": 1.50e+3 }', '{"old":"new", "n": 1.50e+3 }'),
        ('["\\u003Cold\\u003E", "/"]', '["\\u003Cnew\\u003E", "/"]'),
        ('["\\ud83d\\ude00old"]', '["\\ud83d\\ude00new"]'),
        ('["\\ud83dold"]', '["\\ud83dnew"]'),
        ('O:8:"old\\Name":1:{s:6:"\0*\0old";s:4:"oldé";}', None),
        ('O:7:"oldName":2:{s:6:"\0*\0old";s:5:"oldé";s:1:"r";R:2;}', 'O:7:"oldName":2:{s:6:"\0*\0old";s:5:"newé";s:1:"r";R:2;}'),
        ('C:3:"Old":10:{s:3:"old";}', 'C:3:"Old":10:{s:3:"new";}'),
        ('C:11:"ArrayObject":44:{x:i:0;a:1:{s:1:"a";s:3:"old";};m:a:0:{}}', None),
        ('a:3:{i:0;d:0.1;i:1;d:-INF;i:7;E:7:"Old:old";}', 'a:3:{i:0;d:0.1;i:1;d:-INF;i:7;E:7:"Old:old";}'),
        (' a:1:{i:0;s:3:"old";}\n', ' a:1:{i:0;s:3:"new";}\n'),
        ('a:1:{i:0;s:4:"old";}', None),
        ('a:1:{i:0;s:3:"old"', None),
        ('{"a":"s:4:\\"old\\";"}', None),
        ("{old} text", "{new} text"),
        ("[old](link)", "[new](link)"),
        ("i:5 old;", "i:5 new;"),
        ("s:3:old", "s:3:new"),
        ("old\udcff", "new\udcff"),
        ('s:4:"old\udcff";', 's:4:"new\udcff";'),
    ],
)  # fmt: skip
def test_replacement(text, expected):
    def replace(text: str, _path: str) -> str:
        return text.replace("old", "new")

    if expected is None:
        with pytest.raises(UnreadableTextError):
            rewrite_texts(text, replace)
    else:
        assert rewrite_texts(text, replace) == expected


def test_lengths_are_those_of_the_new_texts():
    text = dump_php({"a": dump_php(["old", {"b": "ölold"}])})
    result = rewrite_texts(text, lambda text, _: text.replace("old", "né" * 60))
    assert result == dump_php({"a": dump_php(["né" * 60, {"b": "öl" + "né" * 60}])})


def test_unreadable_text_inside_a_value_gets_its_own_function():
    text = dump_php(["old", 's:9:"old";'])
    result = rewrite_texts(text, lambda text, _: text + "!", unreadable=lambda _, path: f"?{path}")
    assert result == dump_php(["old!", "?*"])


@pytest.mark.parametrize("text", ["[" * 100_000 + "]" * 100_000, "a:1:{i:0;" * 5000 + "i:1;" + "}" * 5000])
def test_deep_values_are_read_or_reported(text):
    assert rewrite_texts(text, lambda text, _: text, unreadable=lambda text, _: text) == text


@given(
    st.recursive(
        st.text("a/é@", max_size=4) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("a/é@", max_size=4), inner, max_size=3)
        ),
    )
)
def test_keys_are_replaced_at_every_level(value):
    def add_to_keys(item: object) -> object:
        if isinstance(item, list):
            return [add_to_keys(inner) for inner in item]
        if isinstance(item, dict):
            return {f"{key}+": add_to_keys(inner) for key, inner in item.items()}
        return item

    replaced = rewrite_texts(
        json.dumps([value]), lambda text, _: text, rewrite_key=lambda text, _: f"{text}+"
    )
    assert json.loads(replaced) == add_to_keys([value])


def test_keys_of_php_arrays_are_replaced_and_names_of_properties_stay():
    text = 'a:2:{s:3:"ann";O:3:"Box":1:{s:3:"ann";a:1:{s:3:"ann";i:1;}}i:7;s:3:"ann";}'
    replaced = rewrite_texts(text, lambda text, _: text, rewrite_key=lambda _text, _: "né")
    assert replaced == 'a:2:{s:3:"né";O:3:"Box":1:{s:3:"ann";a:1:{s:3:"né";i:1;}}i:7;s:3:"ann";}'
