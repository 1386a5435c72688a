"""A statement is shown short, on one line, and without the values that stand in it, however it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.mysql.sql.lexer import tokens as mysql
from dbctl.engines.parsing.redact import LONGEST, shown
from dbctl.engines.postgresql.sql.lexer import tokens as postgresql

BOTH = [(postgresql, "'"), (mysql, "'\"")]


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("select * from t where a = 'it''s' and b = 12", "select * from t where a = ? and b = ?"),
        ("alter role x password 'sec", "alter role x password ?"),
        ("select  1.5e3,\n x1 -- 'secret'", "select ?, x1"),
        ("select /* secret */ a\n\tfrom t", "select a from t"),
        ("update t set a = 'x\\'y', b = 'secret'", "update t set a =…"),
        ("", ""),
    ],
)
@pytest.mark.parametrize(("tokens", "quotes"), BOTH)
def test_values_and_comments_go_and_names_stay(sql, told, tokens, quotes):
    assert shown(sql, tokens, quotes) == told


def test_what_stands_in_double_quotes_is_a_name_or_a_value_by_the_engine():
    sql = 'select "a b" from t'
    assert shown(sql, postgresql) == sql
    assert shown(sql, mysql, "'\"") == "select ? from t"
    assert shown("select `a b` from t", mysql, "'\"") == "select `a b` from t"
    assert shown("select $tag$ secret $tag$, $1", postgresql) == "select ?, $1"


@pytest.mark.parametrize(("tokens", "quotes"), BOTH)
def test_a_long_statement_is_cut(tokens, quotes):
    found = shown("select " + "a, " * 100, tokens, quotes)
    assert len(found) == LONGEST
    assert found.endswith("…")


@pytest.mark.parametrize(("tokens", "quotes"), BOTH)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\0")), escaped=st.booleans())
def test_no_value_shows_whatever_is_in_it(tokens, quotes, value, escaped):
    secret = f"hunter{value}x"
    text = secret.replace("\\", "\\\\").replace("'", "\\'") if escaped else secret.replace("'", "''")
    for sql in (f"set password = '{text}'", f"set a = '{text}', b = '{text}' where c = '{text}'"):
        for kept in (sql, sql[: len(sql) * 3 // 4]):
            assert "hunter" not in shown(kept, tokens, quotes)
