"""Results in every output format."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbctl.errors.usage import UsageError
from dbctl.model import ChangeResult, Closing, DryRunResult, Finding, Findings, Page, Plan
from dbctl.render import result as result_output
from dbctl.render.result import closing_line
from dbctl.render.streams import Format, OutputOptions
from dbctl.render.tables import build_blocks, cell_width, plain_lines


def page(*items):
    return Page(items=items, total=len(items))


def show(capfd, result, form, **display):
    result_output.show(
        result_output.CommandOutput(command=["x"], result=result), OutputOptions(format=form, **display)
    )
    sys.stdout.flush()
    return capfd.readouterr().out


def lines(result):
    return list(plain_lines(build_blocks(result)))


def test_columns_are_aligned_without_truncation():
    long = "x" * 300
    assert lines(page({"name": "a", "count": 5}, {"name": long, "count": 12})) == [
        "name" + " " * 298 + "count",
        "a" + " " * 301 + "    5",
        long + "     12",
    ]


def test_wide_characters_have_width_two_and_combining_characters_zero():
    assert (cell_width("日本"), cell_width("e\u0301"), cell_width("ab")) == (4, 1, 2)
    first, second = lines(page({"a": "日本", "b": "x"}, {"a": "abcd", "b": "x"}))[1:]
    assert first.index("x") + 2 == second.index("x")


def test_columns_are_union_of_all_items():
    assert lines(page({"a": 1}, {"b": "x"})) == ["a  b", "1  -", "-  x"]


def test_single_result_lists_names_values_and_nested_values():
    result = {
        "id": 1,
        "roles": ["a", "b"],
        "settings": [{"key": "k", "value": None}],
        "more": {"x": True},
        "none": [],
    }
    assert lines(result) == [
        "id     1",
        "roles  a, b",
        "none   -",
        "settings:",
        "  key  value",
        "  k    -",
        "more:",
        "  x  yes",
    ]


def test_plan_has_numbered_steps_and_destruction_warning():
    text_lines = lines(
        DryRunResult(
            plan=Plan(title="Delete", target="a/b", steps=["one", "two"], rows={"t": 12}, destructive=True)
        )
    )
    assert text_lines == [
        "Delete (a/b)",
        "  1. one",
        "  2. two",
        "  table  rows",
        "  t        12",
        "This destroys data.",
    ]


def test_plan_without_target_has_no_parentheses():
    assert lines(DryRunResult(plan=Plan(title="Clean up", target="", steps=[], rows={}))) == [
        "Clean up: nothing to do"
    ]


def test_empty_results_have_no_lines():
    assert lines(None) == lines(page()) == lines(Findings(checked=3, findings=[])) == []


@pytest.mark.parametrize(
    ("items", "after", "expected"),
    [
        ([1], [], "1 of 3; --offset 1 shows more"),
        ([1], ["1", "it's"], """1 of 3; --after 1 --after 'it'"'"'s' shows more"""),
        ([], ["9"], "none of 3; --after 9 is after the last row"),
    ],
)
def test_closing_line_of_a_list_shows_option_for_next_page(items, after, expected):
    assert closing_line(Page(items=items, total=3, next_key=after)) == expected


@pytest.mark.parametrize(
    ("checked", "severities", "expected"),
    [
        (0, [], "Nothing to check"),
        (1, [], "Checked 1 index: no problems"),
        (2000, ["info", "error", "error"], "Checked 2,000 indexes: 2 errors, 1 remark"),
    ],
)
def test_closing_line_of_a_check_counts_severities(checked, severities, expected):
    findings = [Finding(target="a", severity=severity, code="c", message="m") for severity in severities]
    assert closing_line(Findings(checked=checked, unit="index", findings=findings)) == expected


def test_closing_line_has_duration_size_and_details():
    class Copied(ChangeResult):
        @property
        def closing(self):
            return Closing("Copied a file", ["2 rows"], bytes=2048, is_timed=True)

    assert closing_line(Copied(), seconds=0.14) == "Copied a file in 140 ms: 2.0 KiB, 2 rows"
    assert closing_line(Copied()) == "Copied a file: 2.0 KiB, 2 rows"


def test_findings_are_shown_as_table():
    text_lines = lines(
        Findings(checked=1, findings=[Finding(target="a", severity="error", code="c", message="m")])
    )
    assert text_lines[0].split() == ["target", "severity", "code", "message", "hint"]


def test_unknown_column_of_single_result_is_refused():
    with pytest.raises(UsageError, match="known: a"):
        build_blocks({"a": 1}, ["b"])


CELLS = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"a": CELLS, "b": CELLS}), min_size=1))
def test_csv_round_trips_every_text(capfd, rows):
    result = show(capfd, page(*rows), Format.CSV)
    assert list(csv.DictReader(io.StringIO(result, newline=""))) == rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1))
def test_row_is_one_line_in_table_tsv_and_jsonl(capfd, rows):
    for form, head in ((Format.TABLE, 1), (Format.TSV, 1), (Format.JSONL, 0)):
        assert len(show(capfd, page(*rows), form).splitlines()) == len(rows) + head


MARKUP_HEADS = {
    "markdown": 2,
    "html": 7,
    "rst": 4,
    "asciidoc": 4,
    "mediawiki": 5,
    "jira": 1,
    "latex": 6,
    "psql": 4,
    "textile": 1,
    "box": 4,
}
HOSTILE_CELL = '<b onclick="x">|&\\ {a} [b] *c* _d_ `e` $f$ #g ^h ~i \x1b\u202e'


def test_every_format_is_tested():
    tested = {*MARKUP_HEADS, "table", "json", "jsonl", "csv", "tsv", "template"}
    assert tested == {output for output in Format if not output.is_report}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries({"a": st.text(), "b": st.text()}), min_size=1))
def test_row_is_one_line_in_each_markup(capfd, rows):
    for form, lines in MARKUP_HEADS.items():
        rows_per_line = 2 if form == "mediawiki" else 1  # each row has a line of its own before it
        assert len(show(capfd, page(*rows), Format(form)).splitlines()) == rows_per_line * len(rows) + lines


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("markdown", '&lt;b onclick="x">\\|&\\\\ {a}'),
        ("html", "&lt;b onclick=&quot;x&quot;&gt;|&amp;\\ {a} [b] *c*"),
        ("rst", '\\<b onclick="x">\\|&\\\\ {a} [b] \\*c\\* \\_d\\_ \\`e\\`'),
        (
            "asciidoc",
            "&#60;b onclick&#61;&#34;x&#34;&#62;&#124;&#38;&#92; &#123;a&#125; &#91;b&#93; &#42;c&#42;",
        ),
        (
            "mediawiki",
            "&#60;b onclick&#61;&#34;x&#34;&#62;&#124;&#38;&#92; &#123;a&#125; &#91;b&#93; &#42;c&#42;",
        ),
        ("jira", "&#60;b onclick&#61;&#34;x&#34;&#62;&#124;&#38;&#92; &#123;a&#125; &#91;b&#93; &#42;c&#42;"),
        ("latex", r"\textbar{}\&\textbackslash{} \{a\} {[}b{]} *c* \_d\_ `e` \$f\$ \#g \textasciicircum{}h"),
        (
            "textile",
            "&#60;b onclick&#61;&#34;x&#34;&#62;&#124;&#38;&#92; &#123;a&#125; &#91;b&#93; &#42;c&#42;",
        ),
        ("psql", HOSTILE_CELL[:20]),
        ("box", HOSTILE_CELL[:20]),
    ],
)
def test_cell_is_not_interpreted_as_markup(capfd, form, expected):
    result = show(capfd, page({HOSTILE_CELL: HOSTILE_CELL}), Format(form))
    assert result.count(expected) == 2  # in the header and in the row
    assert "\x1b" not in result
    assert "\u202e" not in result


@pytest.mark.parametrize("text", ["- a", "1. a", "a) b", ".. include:: x", ">>> x", "===", "-----", "#. x", "• x", ":a: b", "a. b"])  # fmt: skip
def test_cell_is_no_block_of_rst(capfd, text):
    assert f"\\{text[:1]}" in show(capfd, page({"x": text}), Format.RST)
    assert "a\\::" in show(capfd, page({"x": "a::"}), Format.RST)


def test_dates_and_keys_are_readable_in_wikis(capfd):
    for text in ("2026-01-31", "a.b@c.example", "https://x.example/a-b"):
        assert text in show(capfd, page({"x": text}), Format.JIRA)
    assert "&#45;a&#45;" in show(capfd, page({"x": "-a-"}), Format.JIRA)


def test_nested_values_are_json_in_csv(capfd):
    result = show(capfd, page({"x": [1, {"a": None}], "y": None, "z": True}), Format.CSV)
    row = next(csv.DictReader(io.StringIO(result)))
    assert (json.loads(row["x"]), row["y"], row["z"]) == ([1, {"a": None}], "", "true")


def test_single_result_is_one_row(capfd):
    item = Finding(target="a", severity="info", code="b", message="c")
    assert (
        show(capfd, item, Format.CSV)
        == "target,severity,code,message,hint,file,line,source\na,info,b,c,,,,\n"
    )
    assert show(capfd, {"a": 1}, Format.JSONL) == '{"a": 1}\n'


def test_mapping_is_one_row_per_key(capfd):
    assert show(capfd, {"a": 1, "b": 2}, Format.CSV) == "key,value\na,1\nb,2\n"


def test_empty_list_has_header(capfd):
    empty_page = Page(items=[], total=0, column_names=["id", "login"])
    assert show(capfd, empty_page, Format.CSV) == "id,login\n"
    assert show(capfd, empty_page, Format.JSON).count("login") == 0


def test_excel_safe_does_not_prefix_numbers(capfd):
    assert show(capfd, page({"n": -5, "t": "-5"}), Format.CSV, excel_safe=True) == "n,t\n-5,'-5\n"
