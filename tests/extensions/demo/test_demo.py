"""The sample of Flashpoint Web: deterministic rows that follow the rules of the app, written completely or not at all."""

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from importlib import import_module

import bcrypt
import pytest

from dbctl.config.environment import bundled_folder
from dbctl.errors.connection import FileExistsAlreadyError, FileFailedError
from dbctl.errors.usage import NotSupportedError, ValueInvalidError
from dbctl.extensions.demo import random
from dbctl.extensions.demo.builder import build_sample
from dbctl.extensions.demo.definition import MAX_ROWS, SAMPLES, read_definition
from tests.observed_progress import observe_progress

AT = datetime(2026, 6, 1, 12, tzinfo=UTC)
COUNTS = {"games": 300, "users": 60, "plays": 900}
SMALL = {"counts": COUNTS, "at": AT}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    progress = []
    with observe_progress(progress.append):
        sample = build_sample(tmp_path_factory.mktemp("sample") / "new", **SMALL)
    return sample, progress


@pytest.fixture
def user_db(built):
    with closing(sqlite3.connect(built[0].databases["user"])) as connection:
        yield connection


@pytest.fixture
def archive(built):
    with closing(sqlite3.connect(built[0].databases["flashpoint"])) as connection:
        yield connection


def fetch_value(connection, sql):
    return connection.execute(sql).fetchone()[0]


def read_tables(path, *, without=("migrations",)):
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


@pytest.mark.slow
def test_same_seed_and_time_create_the_same_rows(built, tmp_path):
    again = build_sample(tmp_path / "again", **SMALL)
    for name, path in built[0].databases.items():
        assert read_tables(again.databases[name]) == read_tables(path)


@pytest.mark.slow
def test_different_seed_creates_different_rows(built, tmp_path):
    other = build_sample(tmp_path / "other", **SMALL, seed=1)
    assert read_tables(other.databases["user"])["users"] != read_tables(built[0].databases["user"])["users"]
    assert (
        read_tables(other.databases["flashpoint"])["game"]
        != read_tables(built[0].databases["flashpoint"])["game"]
    )


def test_games_do_not_depend_on_the_number_of_games(built, tmp_path):
    more = build_sample(tmp_path / "more", counts={"games": 400, "users": 4, "plays": 0}, at=AT)
    assert (
        read_tables(more.databases["flashpoint"])["game"][:300]
        == read_tables(built[0].databases["flashpoint"])["game"]
    )


def test_both_databases_pass_integrity_checks(user_db, archive):
    for connection in (user_db, archive):
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("pragma foreign_key_check").fetchall() == []


def test_requested_row_counts_are_created_and_reported(built, user_db, archive):
    sample, progress = built
    assert fetch_value(archive, "select count(*) from game") == sample.rows["games"] == 300
    assert fetch_value(user_db, "select count(*) from users") == sample.rows["users"] == 60
    assert fetch_value(user_db, "select count(*) from user_game_plays") == sample.rows["plays"] == 900
    assert sum(progress) == 300 + 60 + 900
    assert sample.bytes == sum(path.stat().st_size for path in sample.databases.values())


def test_ledger_records_names_and_checksums_of_migrations(user_db):
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


def test_journal_modes_are_those_of_the_app(user_db, archive):
    assert fetch_value(user_db, "pragma journal_mode") == "wal"
    assert fetch_value(archive, "pragma journal_mode") == "delete"


def test_statistics_equal_a_recount_of_the_ended_plays(user_db):
    query = "select user_id, game_id, total_plays, total_playtime_seconds from user_game_stats order by 1, 2"
    recount = (
        "select user_id, game_id, count(*), sum(duration_seconds) from user_game_plays"
        " where ended_at is not null group by 1, 2 order by 1, 2"
    )
    assert user_db.execute(query).fetchall() == user_db.execute(recount).fetchall() != []
    query = "select user_id, total_games_played, total_sessions, total_playtime_seconds from user_stats order by 1"
    recount = (
        "select user_id, count(distinct game_id), count(*), sum(duration_seconds) from user_game_plays"
        " where ended_at is not null group by 1 order by 1"
    )
    assert user_db.execute(query).fetchall() == user_db.execute(recount).fetchall() != []


@pytest.mark.parametrize("plays", [3, 900])
def test_plays_are_ended_active_and_abandoned(tmp_path, plays):
    sample = build_sample(tmp_path, counts={"games": 20, "users": 5, "plays": plays}, at=AT)
    day_before = (AT - timedelta(days=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with closing(sqlite3.connect(sample.databases["user"])) as connection:
        states = connection.execute(
            "select count(ended_at), sum(ended_at is null and started_at >= ?), sum(ended_at is null and started_at < ?)"
            " from user_game_plays",
            (day_before, day_before),
        ).fetchone()
    assert all(states), states


def test_rows_are_not_in_the_future_nor_older_than_their_user(user_db):
    now_text = "2026-06-01T12:00:00.000Z"
    assert (
        fetch_value(
            user_db,
            f"select count(*) from user_game_plays where max(started_at, coalesce(ended_at, '')) > '{now_text}'",
        )
        == 0
    )
    assert fetch_value(user_db, f"select count(*) from activity_logs where created_at > '{now_text}'") == 0
    assert (
        fetch_value(
            user_db,
            "select count(*) from user_game_plays p join users u on u.id = p.user_id where p.started_at < u.created_at",
        )
        == 0
    )
    assert (
        fetch_value(
            user_db,
            "select count(*) from refresh_tokens t join users u on u.id = t.user_id where t.created_at < u.created_at",
        )
        == 0
    )


def test_duration_of_ended_plays_matches_their_times(user_db):
    assert (
        fetch_value(
            user_db,
            "select count(*) from user_game_plays where ended_at is not null and"
            " duration_seconds <> round((julianday(ended_at) - julianday(started_at)) * 86400)",
        )
        == 0
    )


def test_plays_have_ids_and_titles_of_archive_games(built, user_db):
    user_db.execute("attach ? as archive", (str(built[0].databases["flashpoint"]),))
    played = fetch_value(
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


def test_users_differ_in_role_status_and_last_login(user_db):
    def count(where):
        return fetch_value(user_db, f"select count(*) from users where {where}")

    assert count("last_login_at is null") > 0
    assert count("is_active = 0") > 0
    assert fetch_value(user_db, "select count(distinct role_id) from users") == 4
    assert count("role_id = 1 and is_active = 1") >= 1


def test_tokens_are_valid_expired_and_revoked(user_db):
    now_text = "2026-06-01T12:00:00.000Z"
    for state in (
        f"revoked_at is null and expires_at > '{now_text}'",
        f"revoked_at is null and expires_at < '{now_text}'",
        "revoked_at is not null",
    ):
        assert fetch_value(user_db, f"select count(*) from refresh_tokens where {state}") > 0, state
    assert fetch_value(user_db, "select count(*) from refresh_tokens where length(token) <> 128") == 0


def test_exactly_one_user_is_locked_out_with_mixed_case_attempts(user_db):
    recent = (
        "select lower(username), count(*), count(distinct username) from login_attempts"
        " where success = 0 and attempted_at > '2026-06-01T11:45:00.000Z' group by 1 having count(*) >= 6"
    )
    locked = user_db.execute(recent).fetchall()
    assert len(locked) == 1
    assert locked[0][2] > 1
    assert fetch_value(user_db, f"select count(*) from users where lower(username) = '{locked[0][0]}'") == 1


def test_named_accounts_have_their_password_and_role(built, user_db):
    for account in built[0].accounts:
        stored, role = user_db.execute(
            "select password_hash, r.name from users u join roles r on r.id = u.role_id where username = ?",
            (account.login,),
        ).fetchone()
        assert stored.startswith("$2b$10$")
        assert bcrypt.checkpw(account.password.encode(), stored.encode())
        assert role == account.role


def test_other_users_share_one_password_hash(built, user_db):
    hashes = user_db.execute(
        f"select distinct password_hash from users where id > {len(built[0].accounts)}"
    ).fetchall()
    assert len(hashes) == 1
    assert bcrypt.checkpw(built[0].password_of_others.encode(), hashes[0][0].encode())


def test_named_accounts_exist_for_few_users(tmp_path):
    sample = build_sample(tmp_path, counts={"games": 0, "users": 0, "plays": 50}, at=AT)
    assert sample.rows["users"] == len(sample.accounts)
    assert sample.rows["plays"] == 0  # there are no games


def test_no_other_files_remain(built):
    paths = {path.relative_to(built[0].directory).as_posix() for path in built[0].directory.rglob("*")}
    assert paths == {"backend", "backend/user.db", "Data", "Data/flashpoint.sqlite"}


@pytest.mark.parametrize("place", ["backend/user.db", "Data/flashpoint.sqlite"])
def test_existing_database_is_refused_and_unchanged(tmp_path, place):
    existing = tmp_path / place
    existing.parent.mkdir(parents=True)
    existing.write_bytes(b"existing")
    with pytest.raises(FileExistsAlreadyError, match=r"already exists"):
        build_sample(tmp_path, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [existing]
    assert existing.read_bytes() == b"existing"


def test_interrupted_build_leaves_no_database(tmp_path):
    def interrupt(_more):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), observe_progress(interrupt):
        build_sample(tmp_path, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_directory_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileFailedError, match="file"):
        build_sample(tmp_path / "file" / "below", **SMALL)


@pytest.mark.parametrize("count", [-1, MAX_ROWS + 1])
@pytest.mark.parametrize("kind", ["games", "users", "plays"])
def test_row_count_out_of_range_is_refused(tmp_path, kind, count):
    with pytest.raises(ValueInvalidError, match=f"the number of {kind} {count}"):
        build_sample(tmp_path / "none", counts=COUNTS | {kind: count})
    assert not (tmp_path / "none").exists()


def test_profile_without_sample_is_refused(tmp_path):
    with pytest.raises(NotSupportedError, match="larder"):
        build_sample(tmp_path, profile="larder")


def test_row_count_of_other_profile_is_refused(tmp_path):
    with pytest.raises(NotSupportedError, match="prompts"):
        build_sample(tmp_path, counts={"prompts": 5})


def test_zipf_ranks_are_in_range_and_skewed_to_the_first():
    ranks = [random.zipf_rank(random.rng_for(0, "rank", number), 10) for number in range(3_000)]
    assert set(ranks) == set(range(10))
    assert ranks.count(0) > ranks.count(1) > ranks.count(9)
    assert random.zipf_rank(random.rng_for(0, "x"), 1) == 0


def test_each_sample_generates_the_rows_of_its_databases():
    for profile in SAMPLES:
        module = import_module(f"dbctl.extensions.demo.{profile.replace('-', '_')}")
        databases = read_definition(profile).databases
        assert set(module.FILLS) == {
            name for name, database in databases.items() if database.rows or database.tables
        }
