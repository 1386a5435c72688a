"""The index of vectors: made, measured against what is nearest, made anew for what came since, and dropped."""

from __future__ import annotations

import pytest

from dbctl.config import Selection
from dbctl.errors import (
    AbilityMissingError,
    AlreadyExistsError,
    NotSupportedError,
    VectorIndexUnfitError,
)
from dbctl.services.app import app as apps
from dbctl.services.search import indexes
from dbctl.services.search.semantic.search import Asked, Like, find
from tests.engines import lance
from tests.engines.lance import TABLE
from tests.shapes import chat_lancedb


@pytest.fixture
def chat(tmp_path):
    chat_lancedb.deployed(tmp_path / "chat.db")
    lance.made(tmp_path / "lancedb", range(400))
    return tmp_path


def opened(folder, *, only=""):
    urls = [f"chat={folder}/chat.db", f"vectors=lancedb:{folder}/lancedb"]
    return apps.opened(Selection(profile="chat-lancedb", urls=urls), timeout=3, only=only)


def changed(folder, purpose):
    with opened(folder) as app:
        return indexes.change_of(app, "semantic", purpose).apply()


def standing(folder):
    with opened(folder) as app:
        (one,) = indexes.standings(app).items
        return one


def codes(folder):
    with opened(folder) as app:
        return [(one.severity, one.code) for one in indexes.check(app).findings]


def test_an_index_is_made_once_measured_and_dropped(chat):
    assert (standing(chat).search, standing(chat).state) == ("semantic", "missing")
    assert codes(chat) == [("info", "vector-index-missing")]
    with opened(chat) as app:
        plan = indexes.change_of(app, "", "build").plan()
    assert any("400 vectors" in one for one in plan.steps)
    assert standing(chat).state == "missing"
    assert changed(chat, "build").changed
    assert not changed(chat, "build").changed
    assert not changed(chat, "repair").changed
    assert standing(chat).state == "sound"
    ((severity, code),) = codes(chat)
    assert code == "vector-index-recall"
    assert severity in ("info", "warning")  # what it finds is the library's
    assert changed(chat, "drop").changed
    assert not changed(chat, "drop").changed
    assert standing(chat).state == "missing"


def test_what_is_asked_of_an_index_is_found_and_without_one_nothing_is_missed(chat):
    changed(chat, "build")
    with opened(chat) as app:
        exact = [row["id"] for row in find(app, Asked(like=Like(row="msg-00007"), top=20)).page.items]
        near = [
            row["id"] for row in find(app, Asked(like=Like(row="msg-00007"), top=20, index=True)).page.items
        ]
    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).drop_index("vector_idx")
    with opened(chat) as app:
        assert [row["id"] for row in find(app, Asked(like=Like(row="msg-00007"), top=20)).page.items] == exact
    assert near
    assert set(near) <= {f"msg-{number:05}" for number in range(400)}


def test_rows_that_came_since_are_told_and_taken_in(chat):
    changed(chat, "build")
    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).add(
        [lance.row(n) for n in range(500, 600)]
    )
    assert "100 rows of 500 came since" in str(standing(chat).reason)
    assert ("warning", "vector-index-behind") in codes(chat)
    assert changed(chat, "repair").changed
    assert standing(chat).reason is None


def test_an_index_for_another_metric_answers_nothing_and_is_replaced_by_repair_alone(chat):
    from lancedb.index import IvfFlat

    table = lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE)
    table.create_index("vector", config=IvfFlat(distance_type="l2", num_partitions=2))
    assert "l2" in str(standing(chat).reason)
    assert codes(chat) == [("warning", "vector-index-other")]
    with pytest.raises(AlreadyExistsError):
        changed(chat, "build")
    assert changed(chat, "repair").changed
    assert standing(chat).state == "sound"


def test_too_few_vectors_get_none_and_what_has_no_vectors_says_so(chat, tmp_path):
    lance.lancedb.connect(str(chat / "lancedb")).open_table(TABLE).delete("message_id > 'msg-00020'")
    with pytest.raises(VectorIndexUnfitError):
        changed(chat, "build")
    with opened(chat) as app, pytest.raises(NotSupportedError):
        indexes.standings(app, "messages")
    yaai = Selection(profile="yaai", urls=[f"chat={tmp_path}/chat.db"])
    with apps.opened(yaai, timeout=1) as app, pytest.raises(AbilityMissingError):
        indexes.change_of(app, "semantic", "build")
