"""The vector index: build, recall, rebuild after new rows, and drop."""

from __future__ import annotations

import pytest

from dbctl.config.sections import Selection
from dbctl.errors.databases import AlreadyExistsError, VectorIndexUnsuitableError
from dbctl.errors.usage import FeatureMissingError, NotSupportedError
from dbctl.extensions.semantic.search import Reference, SemanticRequest, find
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.shapes import chat_lancedb


@pytest.fixture
def chat(tmp_path):
    chat_lancedb.deployed(tmp_path / "chat.db")
    lance.create_table(tmp_path / "lancedb", range(400))
    return tmp_path


def open_app(folder, *, only=""):
    from dbctl.services.app.session import open_app as open_selected

    urls = [f"chat={folder}/chat.db", f"vectors=lancedb:{folder}/lancedb"]
    return open_selected(Selection(profile="chat-lancedb", urls=urls), timeout=3, only=only)


def apply_change(folder, action):
    from dbctl.services.search.indexes.selection import create_change

    with open_app(folder) as app:
        return create_change(app, "semantic", action).apply()


def read_status(folder):
    from dbctl.services.search.indexes.selection import read_statuses

    with open_app(folder) as app:
        (status,) = read_statuses(app).items
        return status


def list_codes(folder):
    from dbctl.services.search.indexes.selection import check

    with open_app(folder) as app:
        return [(finding.severity, finding.code) for finding in check(app).findings]


@pytest.mark.slow
def test_index_is_built_measured_and_dropped(chat):
    from dbctl.services.search.indexes.selection import create_change

    assert (read_status(chat).search, read_status(chat).state) == ("semantic", "missing")
    assert list_codes(chat) == [("info", "vector-index-missing")]
    with open_app(chat) as app:
        plan = create_change(app, "", "build").plan()
    assert any("400 vectors" in step for step in plan.steps)
    assert read_status(chat).state == "missing"
    assert apply_change(chat, "build").changed
    assert not apply_change(chat, "build").changed
    assert not apply_change(chat, "repair").changed
    assert read_status(chat).state == "valid"
    ((severity, code),) = list_codes(chat)
    assert code == "vector-index-recall"
    assert severity in ("info", "warning")  # the recall depends on the library
    assert apply_change(chat, "drop").changed
    assert not apply_change(chat, "drop").changed
    assert read_status(chat).state == "missing"


def test_search_works_with_and_without_index(chat):
    apply_change(chat, "build")
    with open_app(chat) as app:
        exact = [
            row["id"]
            for row in find(app, SemanticRequest(reference=Reference(row="msg-00007"), limit=20)).page.items
        ]
        near = [
            row["id"]
            for row in find(
                app, SemanticRequest(reference=Reference(row="msg-00007"), limit=20, use_index=True)
            ).page.items
        ]
    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).drop_index("vector_idx")
    with open_app(chat) as app:
        assert [
            row["id"]
            for row in find(app, SemanticRequest(reference=Reference(row="msg-00007"), limit=20)).page.items
        ] == exact
    assert near
    assert set(near) <= {f"msg-{number:05}" for number in range(400)}


@pytest.mark.slow
def test_new_rows_are_reported_and_indexed_by_repair(chat):
    apply_change(chat, "build")
    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).add(
        [lance.create_row(n) for n in range(500, 600)]
    )
    assert "100 rows of 500" in str(read_status(chat).reason)
    assert ("warning", "vector-index-behind") in list_codes(chat)
    assert apply_change(chat, "repair").changed
    assert read_status(chat).reason is None


def test_index_for_other_metric_is_replaced_only_by_repair(chat):
    from lancedb.index import IvfFlat

    table = lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE)
    table.create_index("vector", config=IvfFlat(distance_type="l2", num_partitions=2))
    assert "l2" in str(read_status(chat).reason)
    assert list_codes(chat) == [("warning", "vector-index-other")]
    with pytest.raises(AlreadyExistsError):
        apply_change(chat, "build")
    assert apply_change(chat, "repair").changed
    assert read_status(chat).state == "valid"


def test_index_is_refused_for_too_few_or_no_vectors(chat, tmp_path):
    from dbctl.services.app.session import open_app as open_selected
    from dbctl.services.search.indexes.selection import create_change, read_statuses

    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).delete("message_id > 'msg-00020'")
    with pytest.raises(VectorIndexUnsuitableError):
        apply_change(chat, "build")
    with open_app(chat) as app, pytest.raises(NotSupportedError):
        read_statuses(app, "messages")
    yaai = Selection(profile="yaai", urls=[f"chat={tmp_path}/chat.db"])
    with open_selected(yaai, timeout=1) as app, pytest.raises(FeatureMissingError):
        create_change(app, "semantic", "build")


def test_repair_replaces_an_index_with_another_name(chat):
    """A second index was built, and the search continued to use the first one."""
    import lancedb
    from lancedb.index import IvfFlat

    table = lancedb.connect(chat / "lancedb").open_table(TABLE)
    table.create_index("vector", config=IvfFlat(distance_type="cosine", num_partitions=2), name="neighbours")
    table.add([lance.create_row(number) for number in range(400, 500)])
    assert list_codes(chat)[0] == ("warning", "vector-index-behind")
    result = apply_change(chat, "repair")
    assert (result.index, result.changed) == ("neighbours", True)
    assert [code for _, code in list_codes(chat)] == ["vector-index-recall"]
    assert [index.name for index in lancedb.connect(chat / "lancedb").open_table(TABLE).list_indices()] == [
        "neighbours"
    ]
