"""Storage whose every request may fail, be cut off, or be done and its answer lost: nothing lost, nothing half, and said."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from dbctl.errors import DbctlError
from dbctl.stores.base import State, digest, ordered
from dbctl.stores.registry import open_store
from dbctl.stores.s3 import client
from tests import storage
from tests.fault_proxy import CUT, Answer, Meddler, refused

ROUNDS = 300 if os.environ.get("DBCTL_TORTURE") else 8


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    return storage.given_to(monkeypatch, tmp_path)


def failing(meddler, chance, share):
    """Let requests fail on their way there or back, so many of them as ``share`` says in its only place."""

    def fail(_asked):
        if chance.random() < share[0]:
            return chance.choice([refused(403, "AccessDenied"), refused(500, "InternalError"), CUT])
        return None

    def lose(_asked, answer):
        if chance.random() < share[0]:
            return chance.choice([CUT, Answer(body=answer.body, headers=answer.headers, sent=3)])
        return answer

    meddler.meddle, meddler.change = fail, lose


def work(address, name, content, going):
    """Make a backup and remove others, as far as it comes; return whether it came to the end."""
    store = open_store(address, "app", folder=Path())
    try:
        with store.lock("backup create", timeout=1):
            with store.begin(name) as made:
                made.place("a").write_bytes(content)
                made.keep("a")
                made.finish(name)
            for old in going:
                store.remove(old)
    except DbctlError:  # and nothing else
        return False
    return True


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_requests_fail_each_backup_is_whole_or_none(bucket, monkeypatch, seed):
    chance, share = random.Random(seed), [0.0]  # noqa: S311 - moments, not secrets
    monkeypatch.setattr(client, "TRIES", 2)
    address, honest = f"s3://{bucket.name}", open_store(f"s3://{bucket.name}", "app", folder=Path())
    wanted, ended = dict[str, bytes](), list[bool]()
    with Meddler(storage.port()).running() as meddler:
        failing(meddler, chance, share)
        monkeypatch.setenv("AWS_ENDPOINT_URL", meddler.url)
        for number in range(ROUNDS):
            name, content = f"20260101_{number:06}", chance.randbytes(chance.choice([0, 100, 6 << 20]))
            share[0] = chance.choice([0.02, 0.1, 0.3])
            ended.append(work(address, name, content, [one for one in wanted if chance.random() < 0.3]))
            share[0] = 0.0
            found = honest.folders()
            assert State.FOREIGN not in found.values()
            wanted = {one: wanted.get(one, content) for one in ordered(found, State.WHOLE)}
            for one, held in wanted.items():
                assert digest(honest.read(one, "a")) == digest([held])
                assert honest.last(one) == one.encode()
            with honest.lock(
                "backup prune", timeout=0
            ):  # whoever failed holds nothing that is waited for here
                for one in ordered(found, State.INCOMPLETE):
                    honest.remove(one)
    assert set(ended) == {True, False}
