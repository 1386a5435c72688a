"""``copy --anonymise``: pseudonyms in place of personal data, equal on each engine, and nothing else changed."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from datetime import date, timedelta

import pytest

from dbctl.engines.sql.catalog import ident
from dbctl.errors.connection import FileFailedError
from dbctl.extensions.copies.pseudonyms import CopyKey, Pseudonyms
from dbctl.extensions.copies.rewrite_sqlite import match_pattern
from dbctl.model import Secret
from dbctl.profiles.passwords import verify_password
from tests.databases import empty_database
from tests.extensions.copies.club import build_member, open_club
from tests.in_process import CLEAN_ENVIRONMENT, run_command

KEY = b"0123456789abcdef0123456789abcdef"
COLUMNS = "id, login, email, secret_hash, full_name, phone, home, street, ip, token, about, born, fee, short, profile"


def create_copy(run, tmp_path, destination, *words, status=0):
    (tmp_path / "copies.key").write_bytes(KEY)
    backup = run("backup", "create")
    assert backup["ok"], backup["error"]
    result = run("copy", "--to", destination.url, "--anonymise", "--key", tmp_path / "copies.key", *words)
    assert status in (None, result["exit_code"]), result["error"]
    return result


def test_values_are_the_pseudonyms_of_python(club, destination, run, tmp_path):
    before = club.content()
    result = create_copy(run, tmp_path, destination)
    pseudonyms = Pseudonyms(CopyKey(tmp_path / "copies.key").secret)
    original = build_member(7)
    (row,) = destination.rows(f"select {COLUMNS} from members where id = 7")
    assert row[1] == pseudonyms.replace("login", original[1], 40)
    assert row[2] == pseudonyms.replace("email", original[2], 80)
    assert row[4] == pseudonyms.replace("name", original[4], 60)
    assert row[5] == pseudonyms.replace("phone", original[5], 30)
    assert row[6] == pseudonyms.replace("url", original[6], 120)
    assert row[7] == pseudonyms.replace("address", original[7], 80)
    assert row[8] == pseudonyms.replace("ip", original[8], 45)
    assert row[9] == pseudonyms.replace("token", original[9], 64)
    assert row[10] == pseudonyms.replace("text", original[10])
    assert str(row[11]) == str(date.fromisoformat(original[11]) - timedelta(days=pseudonyms.shift))
    assert row[12] != 1007
    assert abs(row[12] - 1007) <= 101
    assert row[13] == pseudonyms.replace("login", original[13], 12)
    assert len(row[13]) == 12
    document = json.loads(row[14])
    assert document["mail"] == row[2]
    assert document["lang"] == "de"
    assert document["motto"] == pseudonyms.replace("text", "Mühle 00007 turns")
    assert re.fullmatch(r"U[0-9a-f_]+@copy\.invalid", row[2])
    password = result["data"]["password"]
    assert verify_password(Secret(password), row[3], ["bcrypt"])
    assert club.content() == before


def read(database, sql):
    """Return the rows of a query as tuples."""
    return [tuple(row) for row in database.rows(sql)]


def test_keys_hold_and_empty_values_and_copied_rows_stay(club, destination, run, tmp_path):
    club.run(
        "insert into meta values (9001, 3, 'app_key', 'k39dj2ks0q'), (9002, 4, 'mail_key', 'k7wm20xp4z')"
    )
    create_copy(run, tmp_path, destination)
    assert read(destination, "select count(*) from posts p join members m on m.login = p.author") == [(20,)]
    (row,) = read(destination, f"select {COLUMNS} from members where id = 0")
    assert row == (0, "", None, "", None, "", None, "", None, "", "", None, None, "", "")
    assert read(destination, "select count(*) from sign_ins") == [(0,)]
    assert read(destination, "select name from places") == [("Old Mill",)]
    assert read(destination, "select distinct value from meta where name = 'theme'") == [("dark",)]
    assert read(destination, "select count(*), count(distinct name) from meta") == [(60, 3)]
    (nick,), (bio,) = read(
        destination, "select value from meta where member = 3 and name <> 'theme' order by name desc"
    )
    assert nick.startswith("Person ")
    assert bio.startswith("Text ")
    # the texts of posts and members differ in the case of their letters
    mails = read(
        destination, "select lower(m.email), lower(p.mail) from members m join posts p on p.author = m.login"
    )
    assert len(mails) == 20
    assert all(first == second for first, second in mails)


@pytest.mark.slow
def test_copies_with_one_key_join_and_others_do_not(tmp_path):
    """The same people in databases of two engines."""
    mails = {}
    for engine, key in (("sqlite", KEY), ("postgresql", KEY), ("mysql", KEY), ("sqlite", KEY[::-1])):
        folder = tmp_path / f"{engine}{len(mails)}"
        folder.mkdir()
        with (
            open_club(engine, folder / "app") as club,
            empty_database(engine, folder / "copy.db") as destination,
        ):
            (folder / "copies.key").write_bytes(key)
            for words in (
                ["backup", "create"],
                ["copy", "--to", destination.url, "--anonymise", "--key", "../copies.key"],
            ):
                done = run_command(words, environment=CLEAN_ENVIRONMENT, cwd=folder / "app")
                assert done.returncode == 0, done.stderr
            assert club.rows("select count(*) from members")
            mails[len(mails)] = {
                mail for (mail,) in destination.rows("select email from members where email is not null")
            }
    first, second, third, other = mails.values()
    assert first == second == third
    assert len(first) == 20
    assert not first & other


def test_no_original_is_in_the_bytes_of_the_copy(club, destination, run, tmp_path):
    result = create_copy(run, tmp_path, destination)
    (proof,) = result["data"]["proofs"]
    assert (proof["hits"], proof["is_sample"]) == (0, False)
    assert proof["searched"] > 20 * 14
    raw = read_bytes(destination)
    for number in range(1, 21):
        originals = [
            value
            for value in build_member(number)[:-1]
            if isinstance(value, str) and not value.startswith("19")
        ]
        originals += [
            f"Mühle {number:05} turns",
            f"wheel {number:05}",
            f"Quilly{number:05}",
            f"bio of {number:05}q",
            f"session-{number:05}-owl",
        ]
        for original in originals:
            for text in original.split("\n"):
                assert text.encode() not in raw, text
    assert b"quillfeather" not in raw.lower()


def read_bytes(database):
    """Return the bytes of a file, or those of a dump and the statistics of a server."""
    if database.engine == "sqlite":
        return b"".join(path.read_bytes() for path in database.path.parent.glob("copy.db*"))
    tables = {"postgresql": ["pg_statistic", *database.tables()], "mysql": database.tables()}
    return repr([database.rows(f"select * from {name}") for name in tables[database.engine]]).encode()


def test_column_without_rule_is_refused_with_the_list_before_anything_is_written(
    club, destination, run, tmp_path
):
    club.run(
        "alter table members add column nickname varchar(40)",
        "alter table places add column owner varchar(40)",
        "update members set nickname = full_name",
    )
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "copy-rules-missing"
    assert "members.nickname" in result["error"]["message"]
    assert is_empty(destination)
    # as it is, the column has the originals of another one
    result = create_copy(run, tmp_path, destination, "--keep", "members.nickname")
    (proof,) = result["data"]["proofs"]
    assert proof["copied_in"] == {"members.nickname": 20}
    assert any("members.nickname (20)" in warning for warning in result["warnings"])


def test_number_or_date_with_a_personal_name_needs_a_rule(club, destination, run, tmp_path):
    club.run(
        "create table patients (id integer primary key, birth_date date, mobile_number bigint, zip integer, pay_lat double precision,"
        " visited date, phones integer, has_phone integer)",
        "insert into patients values (1, '1990-05-05', 4915112345678, 20095, 53.551086, '2026-01-02', 2, 1)",
    )
    error = create_copy(run, tmp_path, destination, status=6)["error"]
    assert error["code"] == "copy-rules-missing"
    named = ("birth_date", "mobile_number", "zip", "pay_lat")
    assert error["message"].endswith(f": {', '.join(f'patients.{name}' for name in named)}")
    assert is_empty(destination)
    profile = tmp_path / "app" / "club.toml"
    rules = dict(zip(named, ("date", "phone", "token", "number"), strict=True))
    profile.write_text(
        profile.read_text() + "".join(f'"patients.{name}" = "{rule}"\n' for name, rule in rules.items())
    )
    (proof,) = create_copy(run, tmp_path, destination)["data"]["proofs"]
    assert proof["hits"] == 0
    (copied,) = read(
        destination,
        "select birth_date, mobile_number, zip, pay_lat, visited, phones, has_phone from patients",
    )
    old = ("1990-05-05", 4915112345678, 20095, 53.551086)
    assert all(str(new) != str(value) for new, value in zip(copied, old, strict=False))
    assert [str(value) for value in copied[4:]] == ["2026-01-02", "2", "1"]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # others refuse such a key
def test_foreign_key_without_a_unique_target_does_not_prevent_a_copy(club, destination, run, tmp_path):
    club.run(
        "create table codes (code integer)",
        "create table coded (id integer primary key, code integer references codes (code))",
        "insert into coded values (1, 5)",
    )
    create_copy(run, tmp_path, destination)
    assert read(destination, "select code from coded") == [(5,)]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # other engines store only numbers in them
def test_text_in_a_column_of_another_type_needs_a_rule(club, destination, run, tmp_path):
    club.run(
        "create table visits (id integer primary key, contact integer, place numeric, day date, is_new boolean)",
        "insert into visits values (1, '+49 151 12345678', 5, '1990-05-05', 'false'), (2, 3, '', null, 1)",
    )
    club.run(
        "create table guests (id integer primary key, day date, seen datetime, is_new boolean, ref uuid, at timestamp, kind enum)",
        "insert into guests values (1, '5 May 1990 Ada', '1990-05-05, called Bob', 'yes, Ada Love', 'Ada Lovelace', '2026-01-02T03:04:05.678+00:00', 'new one')",
        "insert into guests values (2, '1990-05-05', '2026-01-02 03:04:05Z', 'true', '{0B5A0E3C-9a7d-4c1b-8f7e-000000000000}', 'never', null)",
    )
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "copy-rules-missing"
    guests = "guests.day, guests.seen, guests.is_new, guests.ref"
    assert f": visits.contact, {guests}" in result["error"]["message"]
    club.run("delete from guests where id = 1")
    for words in (["--empty", "visits"], ["--keep", "visits.contact", "--replace", "--yes"]):
        create_copy(run, tmp_path, destination, *words)
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"visits.contact" = "phone"\n')
    create_copy(run, tmp_path, destination, "--replace", "--yes")
    ((contact,), _) = read(destination, "select contact from visits order by id")
    assert contact.startswith("+999 ")


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_domain_of_texts_needs_a_rule_whatever_its_name(club, destination, run, tmp_path):
    names = ("decision", "dated", "timeline", "moneybox")
    club.run(
        *(f"create domain {name} as text" for name in names),
        f"create table kinds (id integer primary key, day date, {', '.join(f'{name} {name}' for name in names)})",
    )
    error = create_copy(run, tmp_path, destination, status=6)["error"]
    assert error["code"] == "copy-rules-missing"
    assert f": {', '.join(f'kinds.{name}' for name in names)}" in error["message"]


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql", "mysql"], indirect=True)
def test_amounts_with_decimals_are_changed(club, destination, run, tmp_path):
    club.run(
        "create table fees (id integer primary key, fee numeric(10,2), rate real, share double precision)",
        "insert into fees values (1, 1234.50, 1234.5, 99.25)",
    )
    profile = tmp_path / "app" / "club.toml"
    rules = "".join(f'"fees.{name}" = "number"\n' for name in ("fee", "rate", "share"))
    profile.write_text(profile.read_text() + rules)
    create_copy(run, tmp_path, destination)
    ((fee, rate, share),) = read(destination, "select fee, rate, share from fees")
    for new, old in ((fee, 1234.5), (rate, 1234.5), (share, 99.25)):
        assert 0 < abs(float(new) - old) <= old / 10


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql", "mysql"], indirect=True)
def test_rows_without_a_key_are_identified_by_single_precision(club, destination, run, tmp_path):
    single = "real" if club.engine == "postgresql" else "float"
    club.run(f"create table fees (fee {single})", "insert into fees values (1234.56), (0.1)")
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"fees.fee" = "number"\n')
    create_copy(run, tmp_path, destination)
    fees = [float(fee) for (fee,) in read(destination, "select fee from fees order by 1 desc")]
    assert len(fees) == 2
    assert 0 < abs(fees[0] - 1234.56) <= 123.5


def test_originals_are_searched_as_a_dump_writes_them(club, destination, run, tmp_path):
    """Texts with line breaks, quotes, backslashes and letters beyond ASCII, and bytes."""
    types = {"sqlite": ("text", "blob"), "postgresql": ("text", "bytea"), "mysql": ("longtext", "blob")}[
        club.engine
    ]
    texts = ["line one\nline two\ttab", 'it\'s "quoted" text', "Ünïcødé wörds", "back\\slash C:\\dir"]
    club.run(
        f"create table secrets (id integer primary key, text {types[0]}, again {types[0]}, raw {types[1]}, raw_again {types[1]})"
    )
    for number, text in enumerate(texts):
        literal = "'" + text.replace("'", "''") + "'"
        if club.engine == "mysql":  # a backslash begins an escape only in MySQL
            literal = f"convert(x'{text.encode().hex()}' using utf8mb4)"
        raw = f"'\\x{text.encode().hex()}'" if club.engine == "postgresql" else f"x'{text.encode().hex()}'"
        club.run(f"insert into secrets values ({number}, {literal}, {literal}, {raw}, {raw})")
    assert [row[0] for row in read(club, "select text from secrets order by id")] == texts
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"secrets.text" = "text"\n"secrets.raw" = "token"\n')
    words = ("--keep", "secrets.again", "--keep", "secrets.raw_again")
    (proof,) = create_copy(run, tmp_path, destination, *words)["data"]["proofs"]
    if club.engine == "sqlite":  # its file has both forms alike
        assert proof["copied_in"] == {"secrets.again": 4, "secrets.raw_again": 4}
    else:
        assert proof["copied"] == 8


def is_empty(database):
    return not database.path.exists() if database.engine == "sqlite" else not database.tables()


def test_existing_destination_is_replaced_only_on_request(club, destination, run, tmp_path):
    destination.run("create table other (id integer primary key)")
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "target-not-empty"
    assert destination.tables() == ["other"]
    create_copy(run, tmp_path, destination, "--replace", "--yes")
    assert "members" in destination.tables()
    assert "other" not in destination.tables()


def test_database_of_the_app_is_refused_as_destination(club, run, tmp_path):
    before = club.content()
    result = create_copy(run, tmp_path, club, "--replace", "--yes", status=6)
    assert result["error"]["code"] == "target-is-source"
    assert club.content() == before


def test_pseudonyms_that_collide_are_refused_before_the_destination_is_touched(
    club, destination, run, tmp_path
):
    club.run("create table badges (id integer primary key, code varchar(1) unique)")
    club.run(
        "insert into badges values "
        + ", ".join(f"({number}, '{chr(97 + number)}')" for number in range(1, 20))
    )
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"badges.code" = "login"\n')
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "copy-constraint"
    assert "badges.code" in result["error"]["message"]
    assert is_empty(destination)


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_rule_that_does_not_fit_the_type_is_refused_with_its_column(club, destination, run, tmp_path):
    club.run(
        "create type place as (street text, town text)",
        "create table visits (id integer primary key, place place)",
        "insert into visits values (1, row('Mill Lane', 'York'))",
    )
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"visits.place" = "text"\n')
    error = create_copy(run, tmp_path, destination, status=6)["error"]
    assert (error["code"], "visits.place" in error["message"]) == ("copy-constraint", True)
    assert is_empty(destination)


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_original_in_a_comment_is_refused_with_that_cause(club, destination, run, tmp_path):
    ((mail,),) = club.rows("select email from members where id = 1")
    club.run(f"comment on table members is 'ask {mail}'")
    error = create_copy(run, tmp_path, destination, status=4)["error"]
    assert (error["code"], "comment" in error["hint"]) == ("copy-leak", True)
    assert is_empty(destination)


def test_violated_check_is_refused_with_its_column(club, destination, run, tmp_path):
    club.run(
        "create table codes (id integer primary key, code varchar(20) check (code like 'x%'))",
        "insert into codes values (1, 'xylophone')",
    )
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"codes.code" = "token"\n')
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "copy-constraint"
    assert "codes.code" in result["error"]["message"]
    assert is_empty(destination)


def test_originals_in_keys_of_documents_need_a_decision(club, destination, run, tmp_path):
    club.run("""update members set profile = '{"Ada Quillfeather 00003": "x"}' where id = 5""")
    result = create_copy(run, tmp_path, destination, status=4)
    assert result["error"]["code"] == "copy-keys"
    assert "members.profile (1)" in result["error"]["message"]
    assert is_empty(destination)
    result = create_copy(run, tmp_path, destination, "--keep-keys", "members.profile")
    (proof,) = result["data"]["proofs"]
    assert proof["copied_in"] == {"members.profile": 1}


def test_numbers_of_documents_are_searched(club, destination, run, tmp_path):
    club.run("update members set phone = '15155000004' where id = 4")
    club.run("""update members set profile = '{"calls": 15155000004}' where id = 5""")
    result = create_copy(run, tmp_path, destination, status=4)
    assert result["error"]["code"] == "copy-keys"


def test_keys_of_documents_are_the_pseudonyms_of_their_rule(club, destination, run, tmp_path):
    profile = tmp_path / "app/club.toml"
    profile.write_text(
        profile.read_text().replace('paths = { "mail"', 'keys = { "*@*" = "email" }, paths = { "mail"')
    )
    mail = build_member(3)[2]
    club.run(f"""update members set profile = '{{"lang": "de", "{mail}": ["{mail}"]}}' where id = 4""")
    create_copy(run, tmp_path, destination)
    ((email,),) = read(destination, "select email from members where id = 3")
    ((document,),) = read(destination, "select profile from members where id = 4")
    assert [*json.loads(document)] == ["lang", email]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)
@pytest.mark.parametrize("words", [(), ("--anonymise",)])
def test_missing_folder_is_created_by_the_copy_and_not_by_its_plan(club, run, tmp_path, words):
    assert run("backup", "create")["ok"]
    folder = tmp_path / "new"
    for options in (["--dry-run"], []):
        assert not folder.exists()
        assert run("copy", "--to", f"{folder}/", *words, *options)["error"] is None
    assert (folder / club.path.name).is_file()


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # the engines have no part in it
def test_plan_states_what_happens_to_each_table_and_writes_nothing(club, destination, run, tmp_path):
    result = create_copy(run, tmp_path, destination, "--dry-run", "--empty", "posts")
    steps = result["data"]["plan"]["steps"]
    assert "main.sign_ins: its rows are not copied" in steps
    assert "main.posts: its rows are not copied" in steps
    assert "main.places: copied" in steps
    assert any(step.startswith("main.members:") and "email as email" in step for step in steps)
    counts = {name: club.rows(f"select count(*) from {name}")[0][0] for name in ("members", "meta", "places")}
    assert any(step.endswith(f"(up to {sum(counts.values())} rows of 5 tables)") for step in steps)
    assert result["data"]["plan"]["rows"] == {**counts, "posts": 0, "sign_ins": 0}
    assert is_empty(destination)


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # the engines have no part in it
def test_option_with_an_unknown_name_is_refused(club, destination, run, tmp_path):
    for words in (["--keep", "members.nothing"], ["--keep-keys", "members.x"], ["--empty", "nothing"]):
        result = create_copy(run, tmp_path, destination, *words, status=2)
        assert words[1] in result["error"]["message"]
    assert is_empty(destination)


def test_emptied_table_to_which_rows_refer_is_refused(club, destination, run, tmp_path):
    result = create_copy(run, tmp_path, destination, "--empty", "members", status=6)
    assert result["error"]["code"] == "copy-constraint"
    assert "posts.author" in result["error"]["message"]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # the engines have no part in it
def test_password_of_standard_input_is_that_of_all_users(club, destination, run, tmp_path):
    (tmp_path / "copies.key").write_bytes(KEY)
    run("backup", "create")
    result = run("copy", "--to", destination.url, "--anonymise", "--password-stdin", stdin=b"correct horse\n")
    assert result["data"]["password"] is None
    hashes = {row[0] for row in read(destination, "select secret_hash from members where id > 0")}
    assert len(hashes) == 1
    assert verify_password(Secret("correct horse"), hashes.pop(), ["bcrypt"])


def test_users_with_a_second_factor_sign_in_without_it(club, destination, run, tmp_path):
    club.run(
        "alter table members add column mfa integer not null default 0",
        "alter table members add column seed varchar(40)",
    )
    club.run("update members set mfa = 1, seed = 'JBSWY3DPEHPK3PXP' where id in (4, 5)")
    factor = '[[users.second_factor]]\nname = "totp"\ntable = "members"\nuser = "id"\non_reset = { mfa = 0, seed = ":null" }\n'
    profile = tmp_path / "app/club.toml"
    profile.write_text(profile.read_text() + factor)
    create_copy(run, tmp_path, destination)
    assert read(destination, "select distinct mfa, seed from members") == [(0, None)]
    assert read(club, "select count(*) from members where mfa = 1 and seed is not null") == [(2,)]


def test_live_databases_are_copied_without_a_repository(club, destination, run, tmp_path):
    result = run("copy", "--to", destination.url, "--from", "live", "--anonymise")
    assert result["ok"], result["error"]
    assert not (tmp_path / "app" / "backups").exists()
    assert read(destination, "select count(*) from members") == [(21,)]


def test_failed_copy_leaves_no_key(tmp_path):
    with open_club("sqlite", tmp_path / "app"):
        (tmp_path / "app/.copy.db.dbctl-lock").mkdir()
        words = ["copy", "--from", "live", "--to", "copy.db", "--anonymise", "--key", "new.key"]
        done = run_command(words, environment=CLEAN_ENVIRONMENT, cwd=tmp_path / "app")
    assert b"Nothing was changed" in done.stderr
    assert not (tmp_path / "app/new.key").exists()


def test_key_that_another_process_created_is_not_replaced(tmp_path):
    keys = [CopyKey(tmp_path / "new.key") for _ in range(2)]
    keys[0].save()
    content = (tmp_path / "new.key").read_bytes()
    with pytest.raises(FileFailedError):
        keys[1].save()
    keys[1].discard()
    assert (tmp_path / "new.key").read_bytes() == content


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)  # the engines have no part in it
def test_missing_key_file_is_created_and_a_short_one_refused(club, destination, run, tmp_path):
    run("backup", "create")
    key = tmp_path / "new.key"
    assert run("copy", "--to", destination.url, "--anonymise", "--key", key)["ok"]
    assert key.stat().st_mode & 0o777 == 0o600
    content = key.read_bytes()
    first = read(destination, "select email from members order by id")
    assert run("copy", "--to", destination.url, "--anonymise", "--key", key, "--replace", "--yes")["ok"]
    assert read(destination, "select email from members order by id") == first
    assert key.read_bytes() == content
    key.write_bytes(b"short")
    result = run("copy", "--to", destination.url, "--anonymise", "--key", key, "--replace", "--yes")
    assert result["error"]["code"] == "copy-key-invalid"


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)
def test_generated_column_with_regexp_is_computed(club, destination, run, tmp_path):
    """SQLite lacks the function; Django defines it."""
    with closing(sqlite3.connect(club.path)) as connection, connection:
        connection.create_function("regexp", 2, match_pattern, deterministic=True)
        connection.execute(
            "create table fees (id integer primary key, fee text, kind text generated always as"
            " (case when fee regexp '^Text [0-9a-f]' then 'text' when fee regexp '^[A-Z]{3}' then 'fee' end) stored)"
        )
        connection.execute("insert into fees (id, fee) values (1, 'EUR 12.50 paid'), (2, null)")
    profile = tmp_path / "app" / "club.toml"
    profile.write_text(profile.read_text() + '"fees.fee" = "text"\n')
    create_copy(run, tmp_path, destination)
    assert read(club, "select id, kind from fees order by id") == [(1, "fee"), (2, None)]
    assert read(destination, "select id, kind from fees order by id") == [(1, "text"), (2, None)]


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_types_of_postgresql(club, destination, run, tmp_path):
    club.run(
        "create table kinds (id integer primary key, mails text[], address inet, settings jsonb, raw bytea, seen timestamptz, mail varchar(80))",
        """insert into kinds values (1, '{a@b.example,"",null,c@d.example}', '93.184.1.2', '{"mail": "zoe@b.example", "n": 1}', 'raw bytes here',
        '2020-05-05 10:00+00', 'a@b.example'), (2, null, null, null, null, null, null)""",
    )
    profile = tmp_path / "app" / "club.toml"
    rules = {
        "mails": "email",
        "address": "ip",
        "settings": "text",
        "raw": "token",
        "seen": "date",
        "mail": "email",
    }
    profile.write_text(
        profile.read_text() + "".join(f'"kinds.{name}" = "{kind}"\n' for name, kind in rules.items())
    )
    create_copy(run, tmp_path, destination)
    pseudonyms = Pseudonyms(CopyKey(tmp_path / "copies.key").secret)
    first, second = read(destination, "select * from kinds order by id")
    assert second == (2, None, None, None, None, None, None)
    mail = pseudonyms.replace("email", "a@b.example")
    assert first[1] == [mail, "", None, pseudonyms.replace("email", "c@d.example")]
    assert first[6] == mail
    assert str(first[2]) == pseudonyms.replace("ip", "93.184.1.2")
    assert first[3] == {"mail": pseudonyms.replace("text", "zoe@b.example"), "n": 1}
    assert bytes(first[4]).decode() == pseudonyms.replace("token", "raw bytes here")
    assert read(destination, "select seen::date from kinds where id = 1") == [
        (date(2020, 5, 5) - timedelta(days=pseudonyms.shift),)
    ]


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_settings_that_apps_define_are_not_copied(club, destination, run, tmp_path):
    name = ident(club.own.path)
    club.run(
        f"alter database {name} set app.jwt_secret = 's3cret-of-production'",
        f"alter role postgres in database {name} set app.token = 'another-s3cret'",
        f"alter database {name} set search_path = public, pg_catalog",
    )
    destination.destroy()  # a database that exists would keep its settings
    plan = create_copy(run, tmp_path, destination, "--dry-run")["data"]["plan"]
    result = create_copy(run, tmp_path, destination)
    settings = f"""select unnest(setconfig) from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase
        where d.datname = '{destination.own.path}'"""
    assert read(destination, settings) == [("search_path=public, pg_catalog",)]
    (remark,) = [text for text in result["data"]["remarks"] if "secrets" in text]
    assert remark.endswith("app.jwt_secret, app.token")
    assert remark in plan["steps"]


@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
def test_connections_to_other_servers_are_not_copied(club, destination, run, tmp_path):
    club.run(
        "create foreign data wrapper bare",
        "create server far foreign data wrapper bare",
        "create user mapping for public server far options (password 's3cret-of-production')",
        "create user mapping for current_user server far options (password 's3cret-of-production')",
        "create subscription remote connection 'host=/nowhere password=s3cret-of-production' publication p with (connect = false)",
    )
    try:
        plan = create_copy(run, tmp_path, destination, "--dry-run")["data"]["plan"]
        result = create_copy(run, tmp_path, destination)
    finally:  # otherwise the database cannot be dropped
        club.run(
            "alter subscription remote disable",
            "alter subscription remote set (slot_name = none)",
            "drop subscription remote",
        )
    assert read(destination, "select count(*) from pg_user_mappings") == [(0,)]
    subscriptions = "select count(*) from pg_subscription s join pg_database d on d.oid = s.subdbid where d.datname = current_database()"
    assert read(destination, subscriptions) == [(0,)]
    (remark,) = [text for text in result["data"]["remarks"] if "other servers" in text]
    assert remark.endswith("subscription remote, user mapping of server far")
    assert remark in plan["steps"]
    assert (
        read(destination, f"select datname from pg_database where datname like '{club.own.path}_dbctl%'")
        == []
    )


def test_sample_leaves_rows_and_their_dependents_out(club, destination, run, tmp_path):
    before = club.content()
    create_copy(run, tmp_path, destination, "--sample", "members:id <= 5", "--sample", "places:100%")
    assert read(destination, "select id from members order by id") == [(number,) for number in range(6)]
    assert read(
        destination, "select count(*) from posts where author not in (select login from members)"
    ) == [(0,)]
    (expected,) = read(
        club, "select count(*) from posts p join members m on m.login = p.author where m.id <= 5"
    )
    assert read(destination, "select count(*) from posts") == [expected]
    assert expected < read(club, "select count(*) from posts")[0]
    assert club.content() == before


def test_invalid_sample_is_refused(club, destination, run):
    assert run("backup", "create")["ok"]
    for sample, status in (("members", 2), ("membrs:5%", 5), ("members:nam = x", 2)):
        assert run("copy", "--to", destination.url, "--anonymise", "--sample", sample)["exit_code"] == status
    assert run("copy", "--to", destination.url, "--key", "copies.key")["exit_code"] == 2


def test_sample_with_original_values_has_nothing_of_the_other_rows(club, destination, run, tmp_path):
    before = club.content()
    assert run("backup", "create")["ok"]
    words = ["copy", "--to", destination.url, "--sample", "members:id <= 5"]
    steps = run(*words, "--dry-run")["data"]["plan"]["steps"]
    assert steps[0] == "copy 6 rows of 21 of main.members"
    assert steps[-1].startswith("the copy contains the original values")
    assert is_empty(destination)
    result = run(*words)
    (copied,) = result["data"]["databases"]
    assert any(step.endswith(f"({copied['rows']} rows of {copied['tables']} tables)") for step in steps)
    assert result["data"]["effect"]["details"] == ["with the original values"]
    assert read(destination, f"select {COLUMNS} from members where id = 4") == read(
        club, f"select {COLUMNS} from members where id = 4"
    )
    assert read(destination, "select id from members order by id") == [(number,) for number in range(6)]
    raw = read_bytes(destination)
    assert b"Quillfeather 00004" in raw
    assert b"Quillfeather 00007" not in raw
    assert club.content() == before


LOG_DELETED = {
    "sqlite": ["create trigger deleted after delete on posts begin insert into places values (old.id + 100, old.body); end"],
    "postgresql": [
        """create function log_deleted() returns trigger language plpgsql as
        'begin insert into places values (old.id + 100, old.body); return null; end'""",
        "create trigger deleted after delete on posts for each row execute function log_deleted()",
        "alter table posts enable always trigger deleted",
    ],
    "mysql": [
        "create trigger deleted after delete on posts for each row insert into places values (old.id + 100, old.body)"
    ],
}  # fmt: skip


@pytest.mark.parametrize("words", [(), ("--anonymise",)])
def test_triggers_copy_nothing_of_rows_that_a_sample_leaves_out(club, destination, run, words):
    club.run(*LOG_DELETED[club.engine])
    run("backup", "create")
    result = run("copy", "--to", destination.url, "--sample", "members:id <= 5", *words)
    assert result["exit_code"] == 0, result
    assert destination.rows("select name from places") == [("Old Mill",)]
    assert destination.rows("select count(*) from posts") == [(5,)]
    destination.run("delete from posts where id = 1")  # the copy has the trigger
    assert destination.rows("select count(*) from places") == [(2,)]


@pytest.mark.parametrize("club", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "words", [("copy",), ("copy", "--sample", "members:50%"), ("restore", "apply", "latest")]
)
def test_original_values_leave_no_proof_of_an_earlier_copy(club, destination, run, tmp_path, words):
    create_copy(run, tmp_path, destination)
    record = tmp_path / "copy.db.copy.json"
    assert json.loads(record.read_text())["proof"]["hits"] == 0
    to = ("--to", f"main={destination.url}")
    assert run(*words, *to)["exit_code"] == 6
    assert record.exists()
    before = destination.content()
    record.rename(tmp_path / "record")
    record.mkdir()  # cannot be deleted as a file
    error = run(*words, *to, "--replace", "--yes")["error"]
    assert error["hint"].startswith("Nothing was changed.")
    assert destination.content() == before
    record.rmdir()
    (tmp_path / "record").rename(record)
    assert run(*words, *to, "--replace", "--yes")["ok"]
    assert not record.exists()


def test_copy_states_that_it_has_the_original_values(club, destination, run):
    assert run("backup", "create")["ok"]
    result = run("copy", "--to", destination.url)
    assert result["data"]["effect"]["details"] == ["with the original values"]
    assert destination.content() == club.content()


@pytest.mark.slow
@pytest.mark.parametrize("club", ["postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("statements", "objects"),
    [
        (["create schema other", "create table other.hidden (name text)"], "other.hidden"),
        (["select lo_from_bytea(0, 'text')"], "large objects"),
    ],
)
def test_what_no_rule_covers_is_refused(club, destination, run, tmp_path, statements, objects):
    club.run(*statements)
    result = create_copy(run, tmp_path, destination, status=6)
    assert result["error"]["code"] == "copy-unreadable"
    assert objects in result["error"]["message"]
    assert is_empty(destination)
