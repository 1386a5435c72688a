"""Redacted statements are short, on one line, and without values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.mysql.statements import LEXER as MYSQL
from dbctl.engines.parsing.lineage import MAX_CHARACTERS, redact_statement
from dbctl.engines.postgresql.statements import LEXER as POSTGRESQL

DIALECTS = [(POSTGRESQL, "'"), (MYSQL, "'\"")]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select * from t where a = 'it''s' and b = 12", "select * from t where a = ? and b = ?"),
        ("alter role x password 'sec", "alter role x password ?"),
        ("select  1.5e3,\n x1 -- 'secret'", "select ?, x1"),
        ("select /* secret */ a\n\tfrom t", "select a from t"),
        ("update t set a = 'x\\'y', b = 'secret'", "update t set a =…"),
        ("", ""),
    ],
)
@pytest.mark.parametrize(("tokens", "quotes"), DIALECTS)
def test_values_and_comments_are_removed_and_names_remain(sql, expected, tokens, quotes):
    assert redact_statement(sql, tokens, quotes) == expected


def test_double_quotes_are_name_or_value_by_engine():
    sql = 'select "a b" from t'
    assert redact_statement(sql, POSTGRESQL) == sql
    assert redact_statement(sql, MYSQL, "'\"") == "select ? from t"
    assert redact_statement("select `a b` from t", MYSQL, "'\"") == "select `a b` from t"
    assert redact_statement("select $tag$ secret $tag$, $1", POSTGRESQL) == "select ?, $1"


@pytest.mark.parametrize(("tokens", "quotes"), DIALECTS)
def test_long_statement_is_shortened(tokens, quotes):
    redacted = redact_statement("select " + "a, " * 100, tokens, quotes)
    assert len(redacted) == MAX_CHARACTERS
    assert redacted.endswith("…")


@pytest.mark.parametrize(("tokens", "quotes"), DIALECTS)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")), escaped=st.booleans())
def test_no_value_is_shown(tokens, quotes, value, escaped):
    secret = f"hunter{value}x"
    text = secret.replace("\\", "\\\\").replace("'", "\\'") if escaped else secret.replace("'", "''")
    for sql in (f"set password = '{text}'", f"set a = '{text}', b = '{text}' where c = '{text}'"):
        for statement in (sql, sql[: len(sql) * 3 // 4]):
            assert "hunter" not in redact_statement(statement, tokens, quotes)
