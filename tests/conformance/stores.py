"""What every store does: one set of facts, which whoever writes another one inherits and gives the fixture ``place``."""

from __future__ import annotations

import os
import stat
import threading
from abc import ABC, abstractmethod

import pytest

from dbctl.errors import BusyError, RepositoryFailedError, RoomMissingError
from dbctl.stores.base import State, Store, digest, ordered

ONE, TWO = "20260101_000000", "20260101_000001"
#: More than a store sends at a time, and no multiple of it.
LARGE = (9 << 20) + 17


class Place(ABC):
    """Where the store of one test is; ``open`` gives what another process would have of it."""

    @abstractmethod
    def open(self, app: str = "app") -> Store: ...

    @abstractmethod
    def put(self, folder: str, name: str, content: bytes) -> None:
        """Write a file behind the back of dbctl."""

    @abstractmethod
    def take(self, folder: str, name: str) -> None:
        """Remove one."""

    @abstractmethod
    def names(self, folder: str) -> set[str]:
        """Return all that is in a folder."""


def fill(store: Store, folder: str = ONE, text: str = "{}", **files: bytes) -> None:
    with store.begin(folder) as made:
        for name, content in files.items():
            made.place(name).write_bytes(content)
            assert made.keep(name) == digest([content])
        made.finish(text)


class StoreContract:
    """The facts."""

    @pytest.fixture
    def store(self, place: Place) -> Store:
        return place.open()

    # Filled ------------------------------------------------------------------------------------------------------

    def test_where_nothing_was_kept_there_is_nothing(self, store):
        assert store.folders() == {}
        assert store.last(ONE) is None
        assert store.noted(ONE) is None
        assert store.files(ONE) == {}

    def test_what_was_put_in_comes_out_byte_for_byte(self, place, store):
        content = os.urandom(1000)
        fill(store, text='{"a": "ä"}\n', one=content, empty=b"")
        other = place.open()
        assert other.folders() == {ONE: State.WHOLE}
        assert other.last(ONE) == '{"a": "ä"}\n'.encode()
        assert other.files(ONE) == {"one": 1000, "empty": 0}
        assert b"".join(other.read(ONE, "one")) == content
        assert b"".join(other.read(ONE, "empty")) == b""
        with other.opened(ONE, "one") as path:
            assert path.read_bytes() == content

    @pytest.mark.parametrize("way", ["made", "written"])
    def test_a_large_file_is_told_as_it_is_and_read_in_blocks(self, store, way):
        content = os.urandom(1 << 20) * 9 + b"x" * 17
        pieces = [content[start : start + 100_000] for start in range(0, LARGE, 100_000)]
        with store.begin(ONE) as made:
            if way == "made":
                made.place("big").write_bytes(content)
                kept = made.keep("big")
            else:
                kept = made.write("big", iter(pieces), LARGE)
            made.finish("{}")
        assert kept == digest([content]) == digest(store.read(ONE, "big"))
        assert kept.bytes == LARGE
        assert max(map(len, store.read(ONE, "big"))) < LARGE

    def test_who_wrote_a_file_may_know_what_it_is(self, store):
        with store.begin(ONE) as made:
            made.place("a").write_bytes(b"abc")
            known = digest([b"abc"])
            assert made.keep("a", known.sha256) == known
            made.finish("{}")

    def test_a_kept_file_can_be_read_at_its_place_until_the_next_one_is_made(self, store):
        with store.begin(ONE) as made:
            made.place("a").write_bytes(b"abc")
            made.keep("a")
            assert made.place("a").read_bytes() == b"abc"
            made.place("b").write_bytes(b"b")
            made.keep("b")
            made.finish("{}")
        assert store.files(ONE) == {"a": 3, "b": 1}

    def test_what_was_dropped_is_not_there_and_may_be_made_again(self, place, store):
        with store.begin(ONE) as made:
            made.drop("never made")
            made.place("a").write_bytes(b"first")
            made.keep("a")
            made.drop("a")
            assert not made.place("a").exists()
            made.place("a").write_bytes(b"second")
            made.keep("a")
            made.place("b").write_bytes(b"only made")
            made.drop("b")
            made.finish("{}")
        assert b"".join(place.open().read(ONE, "a")) == b"second"
        assert store.files(ONE) == {"a": 6}

    def test_a_lock_is_seen_by_others_until_it_ends(self, place, store):
        fill(store, a=b"first")
        assert not place.open().is_locked()
        with store.lock("test", timeout=5):
            assert place.open().is_locked()
        assert not place.open().is_locked()

    def test_a_folder_that_is_being_filled_is_incomplete_to_others(self, place, store):
        with store.begin(ONE) as made:
            made.write("a", iter([b"a"]), 1)
            assert place.open().folders() == {ONE: State.INCOMPLETE}
            made.finish("{}")
            assert place.open().folders() == {ONE: State.WHOLE}

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
    def test_what_fails_in_the_middle_leaves_nothing(self, place, store, error):
        fill(store, a=b"earlier")
        failed = RepositoryFailedError if error is OSError else error
        with pytest.raises(failed), store.begin(TWO) as made:
            made.place("a").write_bytes(b"a" * 10)
            made.keep("a")
            made.place("b").write_bytes(b"b")
            raise error
        assert place.open().folders() == {ONE: State.WHOLE}
        assert place.names(TWO) == set()
        assert store.files(ONE) == {"a": 7}

    def test_content_that_fails_in_the_middle_leaves_nothing(self, place, store):
        def content():
            yield b"x" * LARGE
            raise ValueError

        with pytest.raises(ValueError), store.begin(ONE) as made:  # noqa: PT011 - any
            made.write("big", content(), 2 * LARGE)
        assert place.names(ONE) == set()

    def test_one_that_is_not_finished_is_a_mistake_of_dbctl(self, store):
        with pytest.raises(RuntimeError), store.begin(ONE):
            pass

    def test_a_folder_that_is_there_is_never_begun_again(self, place, store):
        fill(store, a=b"first")
        before = place.names(ONE)
        with pytest.raises(RepositoryFailedError, match=r"is there already|File exists"):
            fill(place.open(), a=b"second")
        assert (place.names(ONE), b"".join(store.read(ONE, "a"))) == (before, b"first")

    def test_of_two_that_begin_one_folder_at_once_one_alone_fills_it(self, place):
        ended, ready = list[str](), threading.Barrier(4)

        def run(number: int) -> None:
            store = place.open()
            ready.wait()
            try:
                fill(store, a=b"%d" % number, text=f"{number}")
            except RepositoryFailedError:
                ended.append("refused")
            else:
                ended.append(f"{number}")

        others = [threading.Thread(target=run, args=[number]) for number in range(4)]
        for one in others:
            one.start()
        for one in others:
            one.join()
        (winner,) = [one for one in ended if one != "refused"]
        store = place.open()
        assert store.folders() == {ONE: State.WHOLE}
        assert (store.last(ONE), b"".join(store.read(ONE, "a"))) == (winner.encode(), winner.encode())

    # Found -------------------------------------------------------------------------------------------------------

    def test_folders_come_in_their_order_and_each_in_its_state(self, place, store):
        fill(store, TWO, a=b"")
        fill(store, ONE, a=b"")
        place.put("20250101_000000", "by-hand.db", b"x")
        place.put("20250101_000001", ".dbctl-incomplete", b"")
        found = store.folders()
        assert list(found) == ["20250101_000000", "20250101_000001", ONE, TWO]
        assert ordered(found, State.FOREIGN) == ["20250101_000000"]
        assert ordered(found, State.INCOMPLETE) == ["20250101_000001"]

    def test_apps_do_not_see_each_other(self, place):
        fill(place.open("app"), ONE)
        fill(place.open("app-2"), TWO)
        assert list(place.open("app").folders()) == [ONE]
        assert list(place.open("app-2").folders()) == [TWO]
        assert place.open("ap").folders() == {}

    @pytest.mark.parametrize("app", ["../../x", "a b", "ä", "%2E", "a/b", "a#?&"])
    def test_an_app_may_be_called_whatever_a_configuration_likes(self, place, app):
        fill(place.open(app), a=b"1")
        again = place.open(app)
        assert list(again.folders()) == [ONE]
        assert b"".join(again.read(ONE, "a")) == b"1"

    def test_a_file_that_is_gone_is_told(self, place, store):
        fill(store, a=b"1")
        place.take(ONE, "a")
        with pytest.raises(RepositoryFailedError):
            b"".join(store.read(ONE, "a"))
        assert store.files(ONE) == {}

    def test_a_last_file_that_no_backup_has_is_not_read_into_memory(self, place, store):
        fill(store)
        place.take(ONE, "manifest.json")
        place.put(ONE, "manifest.json", b" " * (17 << 20))
        with pytest.raises(RepositoryFailedError):
            store.last(ONE)

    # Changed -----------------------------------------------------------------------------------------------------

    def test_a_remark_takes_the_place_of_an_earlier_one_and_is_no_file(self, place, store):
        fill(store, a=b"1")
        store.note(ONE, "first")
        store.note(ONE, "second")
        assert place.open().noted(ONE) == b"second"
        assert store.files(ONE) == {"a": 1}

    def test_a_remark_on_what_is_gone_is_refused(self, place, store):
        fill(store, TWO)
        with pytest.raises(Exception, match=ONE):
            store.note(ONE, "late")
        assert place.names(ONE) == set()

    def test_what_is_removed_is_gone_wholly_and_nothing_else(self, place, store):
        fill(store, ONE, a=b"1", b=b"2")
        fill(store, TWO, a=b"1")
        store.note(ONE, "x")
        store.remove(ONE)
        assert place.open().folders() == {TWO: State.WHOLE}
        assert place.names(ONE) == set()

    def test_what_was_cut_off_can_be_removed(self, place, store):
        place.put(ONE, ".dbctl-incomplete", b"")
        place.put(ONE, "a", b"1")
        store.remove(ONE)
        assert place.names(ONE) == set()

    # Beside ------------------------------------------------------------------------------------------------------

    def test_a_second_dbctl_waits_and_is_told_who_holds_it(self, place, store):
        with store.lock("backup create", timeout=0):
            with pytest.raises(BusyError, match=f"backup create.*{os.getpid()}"):
                place.open().lock("other", timeout=0).__enter__()
            fill(place.open(), a=b"who reads or writes by the protocol asks for the lock itself")
        with place.open().lock("other", timeout=0):
            pass

    def test_the_lock_goes_when_its_holder_fails(self, place, store):
        with pytest.raises(ValueError), store.lock("first", timeout=0):  # noqa: PT011 - any
            raise ValueError
        with place.open().lock("second", timeout=0):
            pass

    def test_apps_have_locks_of_their_own(self, place):
        with place.open("one").lock("a", timeout=0), place.open("two").lock("b", timeout=0):
            pass

    def test_what_is_unpacked_is_private_and_goes(self, store):
        fill(store)
        with store.scratch(10) as folder:
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            (folder / "plain").write_bytes(b"x")
        assert not folder.exists()

    def test_what_does_not_fit_is_refused_before(self, store):
        fill(store)
        with pytest.raises(RoomMissingError):
            store.want_room(1 << 60)
        with pytest.raises(RoomMissingError), store.scratch(1 << 60):
            pass
        store.want_room(1)
        assert store.room() is None or store.room() > 1
