"""Texts with fields of a user in new rows."""

from __future__ import annotations

import pytest

from dbctl.profiles.templates import fill


@pytest.mark.parametrize(
    ("template", "fields", "text"),
    [
        ("{name} {last_name} <{email}>", {"name": "Ida", "last_name": "Ek", "email": "i@e.org"}, "Ida Ek <i@e.org>"),
        ("{name} {last_name} <{email}>", {"name": "Ida", "last_name": None, "email": "i@e.org"}, "Ida <i@e.org>"),
        ("{name} {last_name} <{email}>", {"email": "i@e.org"}, "<i@e.org>"),
        ("{name,email} of {team:lower}", {"email": "i@e.org", "team": "Red"}, "i@e.org of red"),
        ("{name} at home", {"name": ""}, "at home"),
    ],
)  # fmt: skip
def test_missing_field_is_empty_with_the_space_after_it(template, fields, text):
    assert fill(template, fields) == text
