"""Layout for terminals of any width, with any text."""

from __future__ import annotations

import os
import pty
import re
import sys
from contextlib import closing

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.model import DryRunResult, Finding, Findings, Page, Plan, StoredRow
from dbctl.render import streams
from dbctl.render.tables import build_blocks, cell_width, plain_lines
from dbctl.render.terminal.layout import highlight_script, lay_out, wrap_remark
from dbctl.render.terminal.roles import SIGNS
from dbctl.render.terminal.screen import Screen
from dbctl.render.text import escape

HOSTILE = ["\x1b[31mred", "a\u202eb", "日本語のテキスト", "👩\u200d👧 family", "e\u0301\u0301", "tab\there", "\u2028", "❤\ufe0f", "مرحبا", "\x00", "ﷺ" * 9]  # fmt: skip
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=60), st.from_regex(r"[a-z]{1,9}( [a-z]{1,9}){0,12}", fullmatch=True))  # fmt: skip
VALUE = st.one_of(TEXT, st.none(), st.booleans(), st.integers())
ROWS = st.lists(
    st.fixed_dictionaries({"name": TEXT, "some_value": VALUE, "b": VALUE}), min_size=1, max_size=4
)
WIDTH = st.integers(min_value=20, max_value=130)


def screen(width, encoding="utf-8"):
    return Screen(width=width, height=24, color=False, encodings=[encoding])


def draw(result, width, *, wide=False, encoding="utf-8"):
    shown = screen(width, encoding)
    return [shown.render(line) for line in lay_out(build_blocks(result, drawn=True), shown, wide=wide)]


def results(row, rows):
    """Return a result of each kind: table, names and values, nested table, matrix, findings, plan."""
    texts = [str(value) for value in row.values()]
    return [
        Page(items=rows, total=len(rows)),
        Page(items=[StoredRow(row) for row in rows], total=len(rows)),
        row,
        {"id": 1, "rows": rows, "more": row},
        Page(items=[{"name": texts[0], "a": True, "b": False}], total=1),
        Findings(checked=1, findings=[Finding(texts[0], "warning", "c", texts[1], texts[2])]),
        DryRunResult(plan=Plan(title=texts[0], target=texts[1], steps=texts, rows={texts[0]: 1}, destructive=True)),
    ]  # fmt: skip


@given(ROWS, WIDTH)
def test_values_fit_the_width_and_are_escaped(rows, width):
    for result in results(rows[0], rows):
        for line in draw(result, width):
            assert escape(line) == line
            longest = max(map(cell_width, line.split(" ")))  # sentences have words of any length
            assert cell_width(line) <= width or longest > width - 10


@given(ROWS, WIDTH)
def test_wide_screen_contains_every_value(rows, width):
    for result in results(rows[0], rows)[:5]:
        plain = re.findall(r"\w+", "\n".join(plain_lines(build_blocks(result))))
        drawn = "\n".join(draw(result, width, wide=True))
        empty = {name for name in rows[0] if all(row[name] in {None, "", "-"} for row in rows)}
        words = {*re.findall(r"\w+", drawn), "yes", "no", *empty}  # shown as a sign, or omitted
        assert {*plain} <= words


@given(TEXT, WIDTH)
def test_remark_loses_no_word(text, width):
    line = escape(f"note: {text}")
    wrapped = ["".join(piece for piece, _ in part) for part in wrap_remark(line, "dim", screen(width))]
    assert " ".join(wrapped).split() == line.split()


@given(st.text(), WIDTH)
def test_highlighted_script_loses_no_word(text, width):
    lines = [
        "".join(piece for piece, _ in line) for line in highlight_script(f"select {text}", screen(width))
    ]
    shown = "\n".join(lines)
    assert "".join(shown.split()) == "".join(escape_script(f"select {text}").split())


def escape_script(sql):
    return " ".join(escape(part) for part in re.split(r"\r?\n|\t", sql))


@pytest.mark.parametrize("text", [text for text in HOSTILE if "\ufe0f" not in text])  # pyte stops at it
def test_columns_are_aligned_on_the_terminal(text):
    rows = [{"a": text, "b": "X"}, {"a": "plain", "b": "X"}]
    shown = pyte.Screen(60, 5)
    pyte.Stream(shown).feed("\r\n".join(draw(Page(items=rows, total=2), 60)))
    cells = [[shown.buffer[line][column].data for column in range(60)] for line in (1, 2)]
    assert cells[0].index("X") == cells[1].index("X")


def test_signs_have_substitutes_in_ascii():
    for result in results({"a": "a" * 99, "b": "b b", "c": "c"}, [{"name": "x" * 300, "b": "y" * 300}]):
        assert "".join(draw(result, 80, encoding="ascii")).isascii()
    assert all(substitute.isascii() for substitute in SIGNS.values())


def test_table_that_does_not_fit_omits_empty_columns():
    rows = [{"name": "n" * 40, "ended_at": None, "note": "", "kind": "backup", "drilled_at": None}] * 2
    page = Page(items=rows, total=2)
    assert draw(page, 120)[0].split() == ["name", "ended_at", "note", "kind", "drilled_at"]
    narrow = draw(page, 50)
    assert narrow[0].split() == ["name", "kind"]
    assert narrow[1:] == [f"{'n' * 40}  backup"] * 2
    requested = build_blocks(page, ["name", "ended_at", "note", "kind"], drawn=True)
    cards = [screen(50).render(line) for line in lay_out(requested, screen(50))]
    assert [line.split()[0] for line in cards[:4]] == ["name", "ended_at", "note", "kind"]


def test_column_without_a_value_in_one_row_stays():
    rows = [{"name": "n" * 60, "ended_at": None}, {"name": "m", "ended_at": "now"}]
    assert draw(Page(items=rows, total=2), 65)[0].split() == ["name", "ended_at"]


@given(st.text("abc_", min_size=1, max_size=20), WIDTH)
def test_names_of_columns_are_on_one_line(name, width):
    rows = [{"id": number, name: "x" * 12, f"{name}_at": "y" * 9} for number in (1, 2)]
    lines = draw(Page(items=rows, total=2), width)
    assert {"id", name, f"{name}_at"} <= {*" ".join(lines).split()}


def test_null_differs_from_text():
    values = [None, "", "NULL", "-", "'", "''", [None], [""], ["NULL"], ["-"], "x"]
    rows = [StoredRow(id=number, value=value) for number, value in enumerate(values)]
    for lines in (
        draw(Page(items=rows, total=len(rows)), 80),
        list(plain_lines(build_blocks(Page(items=rows, total=len(rows))))),
    ):
        shown = [line.split()[1] for line in lines[1:]]
        assert len({*shown}) == len(values)
        assert shown[0] == "NULL"
        assert shown[-1] == "x"


def test_numbers_with_null_are_right_aligned():
    rows = [StoredRow(n=None), StoredRow(n=5)]
    assert draw(Page(items=rows, total=2), 80) == ["   n", "NULL", "   5"]


def test_times_and_numbers_are_never_cut():
    rows = [{"name": "n" * 30, "number": 10**25, "text": "t" * 90}]
    (line,) = draw(Page(items=rows, total=1), 80)[1:]
    assert str(10**25) in line
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("open_pair", "shown"), [(pty.openpty, b"\\x1b[31mred\tb\r\n"), (os.pipe, b"\x1b[31mred\tb\n")]
)
def test_file_for_a_program_is_escaped_only_on_a_terminal(monkeypatch, open_pair, shown):
    ours, theirs = open_pair()
    with os.fdopen(ours, "rb", buffering=0) as reader, closing(os.fdopen(theirs, "w")) as output:
        monkeypatch.setattr(sys, "stdout", output)
        streams.write_file("\x1b[31mred\tb\n")
        output.flush()
        assert reader.read(100) == shown
