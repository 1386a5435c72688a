"""The sample of Flashpoint Web: the same again, true to the app's own rules, and never half there."""

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import bcrypt
import pytest

from dbctl import demo
from dbctl.config import bundled_folder
from dbctl.demo import flashpoint_web, random
from dbctl.errors import FileExistsAlreadyError, FileFailedError, NotSupportedError, ValueInvalidError

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTS = {"games": 300, "users": 60, "plays": 900}
SMALL = {"counts": COUNTS, "at": AT}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    progress = []
    sample = demo.build(tmp_path_factory.mktemp("sample") / "new", **SMALL, progress=progress.append)
    return sample, progress


@pytest.fixture
def user_db(built):
    with closing(sqlite3.connect(built[0].databases["user"])) as connection:
        yield connection


@pytest.fixture
def archive(built):
    with closing(sqlite3.connect(built[0].databases["flashpoint"])) as connection:
        yield connection


def fetch_row(connection, sql):
    return connection.execute(sql).fetchone()[0]


def dumped(path, *, without=("migrations",)):
    with closing(sqlite3.connect(path)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "select name from sqlite_master where type = 'table' order by 1"
            )
        ]
        return {
            name: connection.execute(f"select * from {name} order by rowid").fetchall()
            for name in names
            if name not in without
        }


def test_the_same_seed_and_moment_give_the_same_rows(built, tmp_path):
    again = demo.build(tmp_path / "again", **SMALL)
    for name, path in built[0].databases.items():
        assert dumped(again.databases[name]) == dumped(path)


def test_another_seed_gives_other_rows(built, tmp_path):
    other = demo.build(tmp_path / "other", **SMALL, seed=1)
    assert dumped(other.databases["user"])["users"] != dumped(built[0].databases["user"])["users"]
    assert dumped(other.databases["flashpoint"])["game"] != dumped(built[0].databases["flashpoint"])["game"]


def test_a_game_is_the_same_however_many_there_are(built, tmp_path):
    more = demo.build(tmp_path / "more", counts={"games": 400, "users": 4, "plays": 0}, at=AT)
    assert (
        dumped(more.databases["flashpoint"])["game"][:300] == dumped(built[0].databases["flashpoint"])["game"]
    )


def test_both_databases_are_sound(user_db, archive):
    for connection in (user_db, archive):
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_counts_are_as_requested_and_reported(built, user_db, archive):
    sample, progress = built
    assert fetch_row(archive, "select count(*) from game") == sample.rows["games"] == 300
    assert fetch_row(user_db, "select count(*) from users") == sample.rows["users"] == 60
    assert fetch_row(user_db, "select count(*) from user_game_plays") == sample.rows["plays"] == 900
    assert sum(progress) == 300 + 60 + 900
    assert sample.bytes == sum(path.stat().st_size for path in sample.databases.values())


def test_the_ledger_names_the_migrations_that_made_it(user_db):
    rows = user_db.execute("select name, checksum from migrations order by id").fetchall()
    folder = bundled_folder("migrations") / "flashpoint-web" / "user" / "document"
    assert (
        rows
        == [
            (file.stem, hashlib.sha256(file.read_bytes()).hexdigest())
            for file in sorted(folder.glob("*.sql"))
        ]
        != []
    )


def test_each_database_has_the_journal_mode_in_which_the_app_keeps_it(user_db, archive):
    assert fetch_row(user_db, "pragma journal_mode") == "wal"
    assert fetch_row(archive, "pragma journal_mode") == "delete"


def test_statistics_equal_a_recount_of_the_ended_plays(user_db):
    query = "select user_id, game_id, total_plays, total_playtime_seconds from user_game_stats order by 1, 2"
    counted = (
        "select user_id, game_id, count(*), sum(duration_seconds) from user_game_plays"
        " where ended_at is not null group by 1, 2 order by 1, 2"
    )
    assert user_db.execute(query).fetchall() == user_db.execute(counted).fetchall() != []
    query = "select user_id, total_games_played, total_sessions, total_playtime_seconds from user_stats order by 1"
    counted = (
        "select user_id, count(distinct game_id), count(*), sum(duration_seconds) from user_game_plays"
        " where ended_at is not null group by 1 order by 1"
    )
    assert user_db.execute(query).fetchall() == user_db.execute(counted).fetchall() != []


@pytest.mark.parametrize("plays", [3, 900])
def test_plays_are_in_all_three_states(tmp_path, plays):
    sample = demo.build(tmp_path, counts={"games": 20, "users": 5, "plays": plays}, at=AT)
    day_before = (AT - timedelta(days=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with closing(sqlite3.connect(sample.databases["user"])) as connection:
        states = connection.execute(
            "select count(ended_at), sum(ended_at is null and started_at >= ?), sum(ended_at is null and started_at < ?)"
            " from user_game_plays",
            (day_before, day_before),
        ).fetchone()
    assert all(states), states


def test_no_play_and_no_log_entry_lies_in_the_future_or_before_its_user(user_db):
    now_text = "2026-06-01T12:00:00.000Z"
    assert (
        fetch_row(
            user_db,
            f"select count(*) from user_game_plays where max(started_at, coalesce(ended_at, '')) > '{now_text}'",
        )
        == 0
    )
    assert fetch_row(user_db, f"select count(*) from activity_logs where created_at > '{now_text}'") == 0
    assert (
        fetch_row(
            user_db,
            "select count(*) from user_game_plays p join users u on u.id = p.user_id where p.started_at < u.created_at",
        )
        == 0
    )
    assert (
        fetch_row(
            user_db,
            "select count(*) from refresh_tokens t join users u on u.id = t.user_id where t.created_at < u.created_at",
        )
        == 0
    )


def test_duration_of_ended_plays_matches_their_times(user_db):
    assert (
        fetch_row(
            user_db,
            "select count(*) from user_game_plays where ended_at is not null and"
            " duration_seconds <> round((julianday(ended_at) - julianday(started_at)) * 86400)",
        )
        == 0
    )


def test_plays_name_games_of_the_archive_by_their_titles(built, user_db):
    user_db.execute("attach ? as archive", (str(built[0].databases["flashpoint"]),))
    played = fetch_row(
        user_db,
        "select count(*) from user_game_plays p join archive.game g on g.id = p.game_id and g.title = p.game_title",
    )
    assert played == 900


def test_a_few_games_get_most_of_the_plays(user_db):
    counts = [
        count
        for (count,) in user_db.execute(
            "select count(*) from user_game_plays group by game_id order by 1 desc"
        )
    ]
    assert sum(counts[:10]) > 5 * sum(counts[-30:])


def test_users_are_as_different_as_those_of_a_real_site(user_db):
    def count(where):
        return fetch_row(user_db, f"select count(*) from users where {where}")

    assert count("last_login_at is null") > 0
    assert count("is_active = 0") > 0
    assert fetch_row(user_db, "select count(distinct role_id) from users") == 4
    assert count("role_id = 1 and is_active = 1") >= 1


def test_tokens_are_valid_expired_and_revoked(user_db):
    now_text = "2026-06-01T12:00:00.000Z"
    for state in (
        f"revoked_at is null and expires_at > '{now_text}'",
        f"revoked_at is null and expires_at < '{now_text}'",
        "revoked_at is not null",
    ):
        assert fetch_row(user_db, f"select count(*) from refresh_tokens where {state}") > 0, state
    assert fetch_row(user_db, "select count(*) from refresh_tokens where length(token) <> 128") == 0


def test_exactly_one_user_is_locked_out_in_several_spellings(user_db):
    recent = (
        "select lower(username), count(*), count(distinct username) from login_attempts"
        " where success = 0 and attempted_at > '2026-06-01T11:45:00.000Z' group by 1 having count(*) >= 6"
    )
    locked = user_db.execute(recent).fetchall()
    assert len(locked) == 1
    assert locked[0][2] > 1
    assert fetch_row(user_db, f"select count(*) from users where lower(username) = '{locked[0][0]}'") == 1


def test_each_account_signs_in_with_its_password_and_has_its_role(built, user_db):
    for account in built[0].accounts:
        stored, role = user_db.execute(
            "select password_hash, r.name from users u join roles r on r.id = u.role_id where username = ?",
            (account.login,),
        ).fetchone()
        assert stored.startswith("$2b$10$")
        assert bcrypt.checkpw(account.password.encode(), stored.encode())
        assert role == account.role


def test_all_others_share_one_hash(built, user_db):
    hashes = user_db.execute(
        f"select distinct password_hash from users where id > {len(built[0].accounts)}"
    ).fetchall()
    assert len(hashes) == 1
    assert bcrypt.checkpw(built[0].password_of_others.encode(), hashes[0][0].encode())


def test_named_accounts_exist_for_few_users(tmp_path):
    sample = demo.build(tmp_path, counts={"games": 0, "users": 0, "plays": 50}, at=AT)
    assert sample.rows["users"] == len(sample.accounts)
    assert sample.rows["plays"] == 0  # there is nothing to play


def test_no_other_files_remain(built):
    left = {path.relative_to(built[0].directory).as_posix() for path in built[0].directory.rglob("*")}
    assert left == {"backend", "backend/user.db", "Data", "Data/flashpoint.sqlite"}


@pytest.mark.parametrize("place", ["backend/user.db", "Data/flashpoint.sqlite"])
def test_existing_database_is_refused_and_unchanged(tmp_path, place):
    existing = tmp_path / place
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"mine")
    with pytest.raises(FileExistsAlreadyError, match=r"already exists"):
        demo.build(tmp_path, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [existing]
    assert existing.read_bytes() == b"mine"


def test_an_interrupted_build_leaves_no_database(tmp_path):
    def interrupt(_more):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo.build(tmp_path, **SMALL, progress=interrupt)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_directory_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFailedError, match="file"):
        demo.build(tmp_path / "file" / "below", **SMALL)


@pytest.mark.parametrize("count", [-1, demo.MAX_ROWS + 1])
@pytest.mark.parametrize("number", ["games", "users", "plays"])
def test_a_number_that_no_sample_has_is_refused(tmp_path, number, count):
    with pytest.raises(ValueInvalidError, match=f"the number of {number} {count}"):
        demo.build(tmp_path / "none", counts=COUNTS | {number: count})
    assert not (tmp_path / "none").exists()


def test_a_profile_without_a_sample_is_refused(tmp_path):
    with pytest.raises(NotSupportedError, match="larder"):
        demo.build(tmp_path, profile="larder")


def test_what_a_sample_is_not_counted_in_is_refused(tmp_path):
    with pytest.raises(NotSupportedError, match="prompts"):
        demo.build(tmp_path, counts={"prompts": 5})


def test_ranks_stay_in_range_and_favour_the_first():
    ranks = [random.zipf_rank(random.rng_for(0, "rank", number), 10) for number in range(3_000)]
    assert set(ranks) == set(range(10))
    assert ranks.count(0) > ranks.count(1) > ranks.count(9)
    assert random.zipf_rank(random.rng_for(0, "x"), 1) == 0


def test_every_sample_is_a_module_with_a_build():
    assert demo.SAMPLES["flashpoint-web"] == flashpoint_web.__name__
