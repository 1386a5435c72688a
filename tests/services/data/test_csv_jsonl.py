"""CSV and JSON Lines files: written rows are read back unchanged, with any block size."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.services.data import csv_jsonl
from dbctl.services.data.csv_jsonl import Cell, Form, RowFileError

SPECIAL_TEXTS = [
    "",
    "\\x00",
    "1",
    "-0",
    "1e5",
    "a,b",
    '"',
    "\n",
    "\r",
    "\r\n",
    "\\.",
    "Infinity",
    "é€😀",
    "\ufeff",
    " x ",
]
TEXTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.sampled_from(SPECIAL_TEXTS))
VALUES = st.one_of(
    st.none(),
    TEXTS,
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.binary(max_size=5),
    st.floats(allow_nan=False),
)


def read_rows(text: bytes, form: Form = Form.CSV) -> tuple[list[str], list[tuple[int, list[object]]]]:
    columns, lines = csv_jsonl.read_rows(io.BytesIO(text), form)
    return list(columns), [(line.number, list(line.values)) for line in lines]


def parse_cell(cell: Cell | None) -> object:
    if cell is None:
        return None
    if cell.is_unquoted and cell.text.startswith("\\x"):
        return bytes.fromhex(cell.text[2:])
    return (
        float(cell.text) if cell.is_unquoted and csv_jsonl.UNQUOTED_VALUE.fullmatch(cell.text) else cell.text
    )


@settings(max_examples=2 * settings.default.max_examples)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=5), name=TEXTS.filter(bool), block=st.integers(1, 40)
)
def test_csv_rows_are_read_back_unchanged(rows, name, block):
    parts: list[bytes] = []
    assert csv_jsonl.write_csv(["a", f"b{name}"], [rows] if rows else [], parts.append) == len(rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_jsonl, "BLOCK", block)
        columns, lines = read_rows(b"".join(parts))
    assert columns == ["a", f"b{name}"]
    expected = [[float(value) if isinstance(value, int | float) else value for value in row] for row in rows]
    assert [[parse_cell(cell) for cell in values] for _, values in lines] == expected


@given(rows=st.lists(st.tuples(VALUES), max_size=5))
def test_nulls_of_a_single_column_are_preserved(rows):
    parts: list[bytes] = []
    csv_jsonl.write_csv(["a"], [rows] if rows else [], parts.append)
    assert [values[0] is None for _, values in read_rows(b"".join(parts))[1]] == [
        row[0] is None for row in rows
    ]


@given(rows=st.lists(st.tuples(VALUES, VALUES), max_size=5))
def test_json_lines_are_read_back_unchanged(rows):
    parts: list[bytes] = []
    assert csv_jsonl.write_jsonl(["a", "b"], [rows] if rows else [], parts.append) == len(rows)
    _, lines = read_rows(b"".join(parts), Form.JSONL)
    assert len(lines) == len(rows)
    for (_, values), row in zip(lines, rows, strict=True):
        for actual, expected in zip(values, row, strict=True):
            assert (float(actual) if isinstance(expected, float) else actual) == expected


def test_rows_have_the_number_of_their_first_line():
    text = b'\xef\xbb\xbfa,b\r\n1,"two\r\nlines"\r\n\r\n3,\n,""\n5,x'
    columns, lines = read_rows(text)
    assert columns == ["a", "b"]
    assert [(number, [cell and cell.text for cell in values]) for number, values in lines] == [
        (2, ["1", "two\r\nlines"]),
        (5, ["3", None]),
        (6, [None, ""]),
        (7, ["5", "x"]),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", 1),
        (b"\n", 1),
        (b"a,a\n1,2\n", 1),
        (b'a,b\n1,2\n3,"open\n4,5\n', 3),
        (b'a,b\n1,"x"y\n', 2),
        (b'a,b\n1,x"y\n', 2),
    ],
)
def test_invalid_csv_error_contains_line(text, line):
    with pytest.raises(RowFileError) as raised:
        read_rows(text)
    assert raised.value.number == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b'{"a": 1}\n{"a": 1, "b": 2}\n', 2),
        (b'{"a": 1}\n\n{}\n', 3),
        (b'{"a": 1}\n[1]\n', 2),
        (b'{"a": NaN}\n', 1),
        (b'{"a": 1, "a": 2}\n', 1),
        (b'{"a": 1}\n{"a": \xff}\n', 2),
        (b'{"a": 1', 1),
    ],
)
def test_invalid_json_lines_error_contains_line(text, line):
    with pytest.raises(RowFileError) as raised:
        read_rows(text, Form.JSONL)
    assert raised.value.number == line


def test_excel_safe_csv_contains_no_formulas():
    parts: list[bytes] = []
    csv_jsonl.write_csv(["a"], [[("=1+1",), (-1,), ("-x",)]], parts.append, excel_safe=True)
    assert b"".join(parts) == b"a\n'=1+1\n-1\n'-x\n"
