"""Rows as text of a template."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl import model
from dbctl.errors.usage import TemplateInvalidError
from dbctl.render.template import parse_template
from dbctl.render.text import escape

ROW = {
    "login": "ana\x1b[31m\n",
    "bytes": 2048,
    "created_at": datetime(2026, 1, 31, 3, tzinfo=UTC),
    "age": timedelta(seconds=90),
    "active": True,
    "nothing": None,
    "share": Decimal("1.5"),
    "parts": [{"name": "x", "a.b": 1}, {"name": "y"}],
    "my col": 1,
    "a.b": 2,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (r"{login}\t{bytes}", "ana\\x1b[31m\\n\t2048"),
        ("{login:json}", '"ana\\u001b[31m\\n"'),
        ("{created_at}", "2026-01-31T03:00:00.000Z"),
        ("{age}, {age:duration}, {share:duration}", "90, 1 min 30 s, 2 s"),
        ("{bytes:size}", "2.0 KiB"),
        ("{active} [{nothing}] {nothing:json} [{nothing:age}]", "true [] null []"),
        ("{parts.1.name}{parts.9.name}{parts.x}", "y"),
        ("{parts.0}", '{"name": "x", "a.b": 1}'),
        ("{my col} {a.b}", "1 2"),
        (r"{{login}} \\ {a.b}", "{login} \\ 2"),
        ("{login.__class__}{login.format}", ""),
    ],
)
def test_row_has_the_text_of_the_template(template, expected):
    assert parse_template(template).format_row(ROW) == expected


def test_ages_are_relative():
    recent = (model.now() - timedelta(hours=3)).isoformat()
    assert parse_template("{at:age}").format_row({"at": recent}) == "3 h ago"


@pytest.mark.parametrize(
    "template",
    ["", "text", "{", "}", "{a", "a}", "{a}}", "{}", "{:size}", "{a:nosuch}", r"{a}\x", "{a}\\", "{a{b}}"],
)
def test_invalid_template_is_refused(template):
    with pytest.raises(TemplateInvalidError):
        parse_template(template)


@pytest.mark.parametrize("template", ["{login:size}", "{login:age}", "{active:size}", "{parts:duration}"])
def test_filter_of_another_type_leaves_the_value_unchanged(template):
    plain = template.partition(":")[0] + "}"
    assert parse_template(template).format_row(ROW) == parse_template(plain).format_row(ROW)


def test_unknown_field_is_refused_with_the_known_ones():
    template = parse_template("{login} {nosuch.x}")
    with pytest.raises(TemplateInvalidError) as caught:
        template.check_fields(["login", "role"])
    assert "login, role" in caught.value.hint
    template.check_fields([])


@given(st.text(), st.text())
def test_row_is_one_line_for_any_text(name, value):
    result = parse_template("{a}:{b}").format_row({"a": name, "b": value})
    assert escape(result) == result


@given(st.text())
def test_any_template_is_parsed_or_refused(text):
    try:
        template = parse_template(text)
    except TemplateInvalidError:
        return
    template.format_row({})
