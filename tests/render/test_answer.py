"""Answers in every form."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.errors import UsageError
from dbctl.model import Finding, Findings, Page, Plan, Planned
from dbctl.render import result as answer
from dbctl.render.drawing import plain, width
from dbctl.render.grid import blocks
from dbctl.render.options import Format, Look


def page(*items):
    return Page(items=items, total=len(items))


def show(capfd, result, form, **look):
    answer.show(answer.Answer(command=["x"], result=result), Look(format=form, **look))
    sys.stdout.flush()
    return capfd.readouterr().out


def lines(result):
    return list(plain(blocks(result)))


def test_columns_are_aligned_and_never_cut():
    long = "x" * 300
    assert lines(page({"name": "a", "count": 5}, {"name": long, "count": 12})) == [
        "name" + " " * 298 + "count",
        "a" + " " * 301 + "    5",
        long + "     12",
    ]


def test_wide_characters_take_two_cells_and_combining_ones_none():
    assert (width("日本"), width("e\u0301"), width("ab")) == (4, 1, 2)
    first, second = lines(page({"a": "日本", "b": "x"}, {"a": "abcd", "b": "x"}))[1:]
    assert first.index("x") + 2 == second.index("x")


def test_columns_are_those_of_all_items():
    assert lines(page({"a": 1}, {"b": "x"})) == ["a  b", "1  -", "-  x"]


def test_one_thing_is_names_and_values_with_what_it_holds_below():
    thing = {
        "id": 1,
        "roles": ["a", "b"],
        "settings": [{"key": "k", "value": None}],
        "more": {"x": True},
        "none": [],
    }
    assert lines(thing) == [
        "id     1",
        "roles  a, b",
        "none   -",
        "settings:",
        "  key  value",
        "  k    -",
        "more:",
        "  x  yes",
    ]


def test_a_plan_is_numbered_and_says_that_it_destroys():
    told = lines(
        Planned(
            plan=Plan(title="Delete", target="a/b", steps=["one", "two"], rows={"t": 12}, destructive=True)
        )
    )
    assert told == [
        "Delete (a/b)",
        "  1. one",
        "  2. two",
        "  table  rows",
        "  t        12",
        "This destroys data.",
    ]


def test_a_plan_of_no_database_has_no_parentheses():
    assert lines(Planned(plan=Plan(title="Clean up", target="", steps=[], rows={}))) == [
        "Clean up: nothing to do"
    ]


def test_where_there_is_nothing_to_say_nothing_is_said():
    assert lines(None) == lines(page()) == lines(Findings(checked=3, findings=[])) == []


@pytest.mark.parametrize(
    ("items", "after", "told"),
    [
        ([1], [], "1 of 3; --offset 1 shows more"),
        ([1], ["1", "it's"], """1 of 3; --after 1 --after 'it'"'"'s' shows more"""),
        ([], ["9"], "none of 3; --after 9 is behind the last one"),
    ],
)
def test_the_rest_of_a_list_is_told_as_it_would_be_typed(capfd, items, after, told):
    answer.footer(Page(items=items, total=3, after=after))
    assert capfd.readouterr().err == f"{told}\n"


def test_a_check_that_looked_at_nothing_does_not_count():
    assert answer.closing(Findings(checked=0, findings=[])) == "nothing to check"
    assert answer.closing(Findings(checked=1, findings=[])) == "1 checked, nothing found"


def test_findings_are_a_table():
    told = lines(Findings(checked=1, findings=[Finding(target="a", severity="error", code="c", message="m")]))
    assert told[0].split() == ["target", "severity", "code", "message", "hint"]


def test_an_unknown_column_is_refused_for_things_too():
    with pytest.raises(UsageError, match="known: a"):
        blocks({"a": 1}, ["b"])


CELLS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b": CELLS}), min_size=1))
def test_csv_gives_every_text_back(capfd, rows):
    told = show(capfd, page(*rows), Format.CSV)
    assert list(csv.DictReader(io.StringIO(told, newline=""))) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1))
def test_a_row_is_a_line_in_table_tsv_jsonl_and_markdown(capfd, rows):
    for form, head in ((Format.TABLE, 1), (Format.TSV, 1), (Format.JSONL, 0), (Format.MARKDOWN, 2)):
        assert len(show(capfd, page(*rows), form).splitlines()) == len(rows) + head


def test_markdown_keeps_bars_and_tags_inside_their_cell(capfd):
    assert "a\\|b&lt;i>" in show(capfd, page({"x": "a|b<i>"}), Format.MARKDOWN)


def test_nested_values_are_json_in_csv(capfd):
    told = show(capfd, page({"x": [1, {"a": None}], "y": None, "z": True}), Format.CSV)
    row = next(csv.DictReader(io.StringIO(told)))
    assert (json.loads(row["x"]), row["y"], row["z"]) == ([1, {"a": None}], "", "true")


def test_one_thing_is_one_row_and_one_line(capfd):
    one = Finding(target="a", severity="info", code="b", message="c")
    assert show(capfd, one, Format.CSV) == "target,severity,code,message,hint\na,info,b,c,\n"
    assert show(capfd, {"a": 1}, Format.JSONL) == '{"a": 1}\n'


def test_keys_and_values_are_a_row_each(capfd):
    assert show(capfd, {"a": 1, "b": 2}, Format.CSV) == "key,value\na,1\nb,2\n"


def test_an_empty_list_has_its_heading_all_the_same(capfd):
    nobody = Page(items=[], total=0, names=["id", "login"])
    assert show(capfd, nobody, Format.CSV) == "id,login\n"
    assert show(capfd, nobody, Format.JSON).count("login") == 0


def test_numbers_are_no_formulas(capfd):
    assert show(capfd, page({"n": -5, "t": "-5"}), Format.CSV, excel_safe=True) == "n,t\n-5,'-5\n"


def test_a_table_inside_of_something_stands_upright_where_the_terminal_is_too_narrow(capfd, monkeypatch):
    from dbctl.render import drawing
    from dbctl.render.grid import Grid, Line

    wide = Grid(head=("path", "sha256"), rows=[["a" * 40, "b" * 64]] * 2, right=(False, False), depth=1)
    monkeypatch.setenv("COLUMNS", "80")
    drawing.rich([Line("data:"), wide], color=False)
    told = [line.rstrip() for line in capfd.readouterr().out.splitlines()]
    assert told[1:] == [
        "  path    " + "a" * 40,
        "  sha256  " + "b" * 64,
        "",
        "  path    " + "a" * 40,
        "  sha256  " + "b" * 64,
    ]


def test_short_columns_stay_whole_and_long_ones_are_folded(capfd, monkeypatch):
    rows = [{"id": 1, "role": "moderator", "at": "2026-01-31 10:00", "text": "z" * 90}]
    from dbctl.render import drawing
    from dbctl.render.grid import blocks

    monkeypatch.setenv("COLUMNS", "60")
    drawing.rich(blocks(page(*rows)), color=False)
    told = capfd.readouterr().out
    assert "moderator" in told
    assert "2026-01-31 10:00" in told
    assert told.count("z") == 90


def test_of_two_long_columns_neither_squeezes_the_other_until_its_words_break(capfd, monkeypatch):
    words = "fp/user is a database, but it lacks table users, role_permissions"
    row = {"target": "fp/user", "severity": "error", "code": "wrong-app", "message": words}
    from dbctl.render import drawing
    from dbctl.render.grid import blocks

    monkeypatch.setenv("COLUMNS", "80")
    drawing.rich(blocks(page(row | {"hint": "Check the path in the configuration."})), color=False)
    told = capfd.readouterr().out
    assert "role_permissions" in told
    assert "configuration." in told
