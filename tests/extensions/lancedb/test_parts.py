"""LanceDB: parts of an open database, and the messages of manifests."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.engines.contract.monitoring import MaintenanceTask
from dbctl.extensions.lancedb.manifest import Message, MessageError, encode_number
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.extensions.lancedb import opening

NUMBERS = st.integers(0, (1 << 64) - 1)
FIELDS = st.integers(1, (1 << 29) - 1)


def list_open_files(folder: Path) -> list[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [str(link.readlink()) for link in links if folder in link.resolve().parents]


def test_database_in_bucket_has_no_dumps():
    assert opening.open_reader("s3://team@bucket/vectors").dumps is None


def test_only_writer_changes_indexes_and_runs_maintenance(tmp_path):
    lance.create_table(tmp_path)
    reader, writer = opening.open_reader(tmp_path), opening.open_writer(tmp_path)
    assert (reader.vector_indexes, writer.fulltext) == (None, None)
    assert writer.vector_indexes is writer.vector_indexes, "a part is created once"
    with pytest.raises(RuntimeError):
        reader.storage.maintain(MaintenanceTask(table=TABLE, statement="compact"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="lists open files")
def test_close_releases_pinned_snapshot(tmp_path):
    lance.create_table(tmp_path)
    reader = opening.open_reader(tmp_path)
    dumps = reader.dumps
    assert dumps.pin_snapshot()
    assert list_open_files(tmp_path)
    reader.close()
    assert not list_open_files(tmp_path)


@given(st.lists(st.tuples(FIELDS, NUMBERS), max_size=8))
def test_message_returns_the_last_value_of_each_number(numbers):
    message = Message(b"".join(encode_number(field, number) for field, number in numbers))
    for field, number in dict(numbers).items():
        assert field in message
        assert message.number(field) == number
        with pytest.raises(MessageError):
            message.data(field)
    missing = 1 + max((field for field, _ in numbers), default=0)
    assert (message.number(missing), message.text(missing), message.messages(missing)) == (0, "", [])


@given(st.binary(max_size=60), NUMBERS)
def test_random_bytes_are_a_message_or_refused(content, number):
    with suppress(MessageError):
        Message(content)
    truncated = encode_number(1, number) + b"\x12\x7f" + content  # a text of 127 bytes
    with pytest.raises(MessageError):
        Message(truncated)
