"""PHP-serialized maps from text to booleans: exact lengths, and a refusal of everything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.profiles.php import dump_php, load_flags


@given(st.dictionaries(st.text(), st.booleans()))
def test_written_map_is_read_again(flags):
    assert load_flags(dump_php(flags)) == flags
    assert list(load_flags(dump_php(flags))) == list(flags)


def test_lengths_are_bytes():
    assert dump_php({"läuft": True, 'a";b:1;': False}) == 'a:2:{s:6:"läuft";b:1;s:7:"a";b:1;";b:0;}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "administrator",
        'a:1:{s:5:"boss";b:1;}',
        'a:1:{s:3:"boss";b:1;}',
        'a:1:{s:-1:"boss";b:1;}',
        'a:2:{s:4:"boss";b:1;}',
        'a:0:{s:4:"boss";b:1;}',
        'a:1:{s:4:"boss";b:2;}',
        'a:1:{s:4:"boss";s:1:"1";}',
        'a:1:{s:4:"boss";i:1;}',
        "a:1:{i:0;b:1;}",
        'a:2:{s:4:"boss";b:1;s:4:"boss";b:0;}',
        'a:1:{s:4:"boss";a:0:{}}',
        'O:8:"stdClass":0:{}',
        'a:1:{s:4:"boss";b:1;} ',
        'a:999999999:{s:4:"boss";b:1;}',
        'a:1:{s:999999999:"boss";b:1;}',
        "a:²:{}",
    ],
)
def test_other_values_are_refused(text):
    with pytest.raises(ValueError, match=r"."):
        load_flags(text)
