"""Parser of ``.env`` files."""

from __future__ import annotations

import pytest

from dbctl.files import dotenv


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("export A = 1 ", {"A": "1"}),
        ("A: yaml", {"A": "yaml"}),
        ("# A=1\n\nno line\nB=2", {"B": "2"}),
        ("A=plain # said beside it", {"A": "plain"}),
        ("A=cut#here", {"A": "cut"}),
        ("A='kept # here'", {"A": "kept # here"}),
        ('A="p@ss/w#rd" # why', {"A": "p@ss/w#rd"}),
        ('A=`it\'s "so"`', {"A": 'it\'s "so"'}),
        ('A="one\\ntwo"', {"A": "one\ntwo"}),
        ("A='one\\ntwo'", {"A": "one\\ntwo"}),
        ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
        ("A=\nB=2", {"A": "", "B": "2"}),
        ("A=''", {"A": ""}),
        ("A=a=b=c", {"A": "a=b=c"}),
        ("A='unclosed", {"A": "'unclosed"}),
        ("A=${B}", {"A": "${B}"}),
        ("", {}),
    ],
)
def test_dotenv_file_is_parsed_like_node(text, variables):
    assert dotenv.parse_dotenv(text) == variables
