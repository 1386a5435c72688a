"""Trial restores: they prove what a restore would bring back, leave nothing behind, and are remembered."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from msgspec import structs

from dbctl.errors import (
    BackupMissingError,
    BackupPartialError,
    Exit,
    NotSupportedError,
    RepositoryMissingError,
)
from dbctl.services.backup import manifest as backup_manifest
from dbctl.services.backup import verification_record
from dbctl.services.backup.create import Creation
from dbctl.services.restore.restore_test import Drills
from tests.services import larder_app, promptvault_app
from tests.services.flashpoint_app import caught, run
from tests.services.promptvault_app import apply, codes, create, file_of, folder_of, pruning, settle, verified
from tests.services.restore.test_apply import pair  # noqa: F401 - a fixture


@pytest.fixture(params=larder_app.PLACES)
def pantry(request, tmp_path):
    with larder_app.settled(request.param, tmp_path / "app") as made:
        yield made


@pytest.fixture
def deployed(tmp_path):
    return settle(tmp_path / "app", "deployed")


def drill(path, name="latest", **more):
    with promptvault_app.opened(path, **more) as (app, _repository):
        return Drills([app], promptvault_app.keys_of, name=name).apply()


def proven(path, made):
    with promptvault_app.opened(path) as (_app, repository):
        return verification_record.read(repository.store, made.id)


def rewrite(path, made, change):
    """Write the manifest of a backup anew, as one who knows how: sealed, its member changed."""
    file = folder_of(path, made) / "manifest.json"
    manifest = backup_manifest.read(file.read_bytes())
    members = [change(one) for one in manifest.members]
    file.write_text(backup_manifest.written(structs.replace(manifest, members=members)))


def test_it_restores_beside_the_live_database_and_leaves_nothing(pantry):
    made, before = create(pantry.path), pantry.content()
    names = pantry.databases() if pantry.engine != "sqlite" else None
    files = {one.name for one in pantry.folder.rglob("*")}
    done = drill(pantry.path)
    (one,) = done.databases
    assert (done.exit_status, one.sound, one.backup) == (Exit.OK, True, made.id)
    assert (one.rows, one.tables) == (sum(made.members[0].rows.values()), len(made.members[0].rows))
    assert one.digests == len(made.members[0].digests) > 0
    assert one.checks > 0
    assert one.duration > timedelta(0)
    assert pantry.content() == before
    assert (pantry.databases() if pantry.engine != "sqlite" else None) == names
    assert {one.name for one in pantry.folder.rglob("*")} - files == {"verified.json"}


def test_the_proof_is_kept_beside_the_backup(pantry):
    made = create(pantry.path)
    drill(pantry.path)
    (name, kept), *others = proven(pantry.path, made).drills.items()
    assert (name, others) == ("pantry", [])
    assert kept.rows == sum(made.members[0].rows.values())
    assert kept.host
    assert kept.dbctl
    assert kept.at >= made.created_at
    (shown,) = promptvault_app.listed(pantry.path).page.items
    assert shown.verified_at > made.verified_at
    assert shown.drills["pantry"] == kept


def test_content_that_is_not_what_was_saved_fails_though_as_many_rows_came_back(pantry):
    """Which only a database that it was loaded into can tell of a server's dump."""
    made = create(pantry.path)
    other = dict.fromkeys(made.members[0].digests, "0" * 64)
    rewrite(pantry.path, made, lambda one: structs.replace(one, digests={**one.digests, **other}))
    done = drill(pantry.path)
    assert (done.exit_status, done.databases[0].sound) == (Exit.UNSOUND, False)
    assert "content" in done.findings[0].message or "not those that were saved" in done.findings[0].message
    assert not proven(pantry.path, made).drills
    assert codes(verified(pantry.path)) == [done.findings[0].code]
    if pantry.engine != "sqlite":
        assert sorted(pantry.databases()) == [pantry.own.path]


#: Values that a server writes in its own way, and has to read back as they were.
ODD = {
    "postgresql": """
create table odd (t timestamptz, d date, i interval, n numeric, r real, f float8, j jsonb, b bytea, a text[], u uuid,
    bits bit(5), made text generated always as ('x' || n::text) stored);
insert into odd values ('infinity', '-infinity', '1 mon -2 days', 'NaN', 0.1, 1e-320, '{"b": 1.10, "a": null}',
    '\\x00ff', array['a,b', null, '"'], '00000000-0000-0000-0000-000000000001', b'10101');
insert into odd values ('2024-01-01 00:00:00.123456+05:30', '4713-01-01 BC', null, 1e40, 'NaN', '-Infinity', 'null');
""",
    "mysql": """
create table odd (t timestamp(6) null, d datetime(3), n decimal(30, 10), f float, g double, j json, b blob, y year,
    h time(3), bits bit(9), e enum('a', 'b'), s set('x', 'y'), made int generated always as (year(d)) stored);
insert into odd (t, d, n, f, g, j, b, y, h, bits, e, s) values ('2024-06-01 00:00:00.123456', '9999-12-31 23:59:59.999',
    12345678901234567890.0000000001, 0.1, 1e-300, '{"b": 1.10}', x'00ff5c27', 1999, '-838:59:59.000', b'101010101',
    'b', 'x,y');
""",
    "sqlite": """
create table odd (a, b, c);
insert into odd values (1.5, x'00ff', 9e999), ('1.5', '', null), (9223372036854775807, cast(x'ff' as text), -0.0);
""",
}


def test_values_of_every_kind_come_back_as_they_were(pantry):
    pantry.run(*ODD[pantry.engine].strip().removesuffix(";").split(";\n"))
    made = create(pantry.path)
    assert "odd" in made.members[0].digests
    done = drill(pantry.path)
    assert (done.exit_status, done.databases[0].digests) == (Exit.OK, len(made.members[0].digests)), (
        done.findings
    )


def test_a_damaged_file_fails_and_is_not_restored_until_it_is_whole_again(deployed):
    made = create(deployed)
    file = file_of(deployed, made)
    whole = file.read_bytes()
    file.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    done = drill(deployed)
    assert (done.exit_status, [one.code for one in done.findings]) == (Exit.UNSOUND, ["file-changed"])
    assert "SHA-256" in proven(deployed, made).failed.message
    file.write_bytes(whole)
    assert drill(deployed).exit_status == Exit.OK
    assert proven(deployed, made).failed is None


def test_what_a_load_found_is_not_taken_back_by_a_look_at_the_files_alone(deployed):
    made = create(deployed)
    rewrite(deployed, made, lambda one: structs.replace(one, rows={**one.rows, "users": 1}))
    assert codes(verified(deployed)) == ["rows-differ"]
    assert codes(verified(deployed, deep=False)) == []
    assert proven(deployed, made).failed.deep
    rewrite(deployed, made, lambda _one: made.members[0])
    verified(deployed)
    assert proven(deployed, made).failed is None


def test_rows_that_break_the_rules_of_the_app_were_saved_so_and_fail_no_drill(deployed):
    run(deployed, "pragma foreign_keys = off")
    run(deployed, "insert into user_settings (user_id, setting_key, setting_value) values (999, 'x', 'y')")
    create(deployed)
    done = drill(deployed)
    assert done.exit_status == Exit.OK
    found = {one.code: one.severity for one in done.findings}
    assert found["foreign-key-orphans"] == "info"


def test_the_newest_of_each_database_is_tried_wherever_it_is(pair):  # noqa: F811 - a fixture
    both = create(pair[0])
    alone = create(pair[0], only="two")
    done = drill(pair[0])
    assert {one.database: one.backup for one in done.databases} == {"one": both.id, "two": alone.id}
    assert [one.database for one in drill(pair[0], both.id).databases] == ["one", "two"]
    assert [one.database for one in drill(pair[0], both.id, only="one").databases] == ["one"]
    caught(BackupMissingError, lambda: drill(pair[0], alone.id, only="one"))


def test_part_of_a_backup_that_was_drilled_does_not_make_all_of_it_verified(pair):  # noqa: F811 - a fixture
    made = create(pair[0])
    drill(pair[0], only="one")
    assert (proven(pair[0], made).verified_at, set(proven(pair[0], made).drills)) == (None, {"one"})
    drill(pair[0], only="two")
    assert set(proven(pair[0], made).drills) == {"one", "two"}
    drill(pair[0])
    assert proven(pair[0], made).verified_at


def test_of_several_apps_one_that_fails_does_not_keep_the_others_from_being_tried(
    tmp_path, answer, monkeypatch
):
    path = settle(tmp_path / "app", "deployed")
    monkeypatch.chdir(path.parent)
    create(path)
    text = path.with_name("dbctl.toml").read_text()
    path.with_name("dbctl.toml").write_text(
        text
        + text.replace("apps.fp", "apps.none")
        + text.replace("apps.fp", "apps.out").partition("[apps.out.backup]")[0]
    )
    told = answer("backup", "drill", "--all-apps", status=Exit.PARTIAL)
    assert [one["app"] for one in told["data"]["databases"]] == ["fp"]
    assert [(one["target"], one["code"]) for one in told["data"]["failed"]] == [("none", "backup-missing")]
    plan = answer("backup", "drill", "--all-apps", "--dry-run")["data"]["plan"]
    assert [step.split(":")[0] for step in plan["steps"]][-1] == "leave none out"
    assert not plan["destructive"]


def test_the_last_one_that_was_drilled_stays_when_others_are_pruned(deployed):
    first = create(deployed)
    drill(deployed)
    second, third = create(deployed), create(deployed)
    with pruning(deployed, last=1) as prune:
        assert f"keep {first.id}: the last one restored on trial" in prune.plan().steps
        assert prune.apply().deleted == [second.id]
    drill(deployed)
    with pruning(deployed, last=1) as prune:
        assert prune.apply().deleted == [first.id]
    assert [one.id for one in promptvault_app.listed(deployed).page.items] == [third.id]


def test_a_backup_that_is_not_there_or_holds_no_database_is_told(deployed):
    caught(RepositoryMissingError, lambda: drill(deployed))
    create(deployed)
    safety = apply(deployed).safety_backup
    assert drill(deployed, safety).databases[0].backup == safety
    caught(BackupMissingError, lambda: drill(deployed, "20000101_000000"))


def test_what_stays_on_its_server_and_what_holds_some_tables_cannot_be_tried(tmp_path):
    with larder_app.settled("postgresql", tmp_path / "app") as pantry:
        create(pantry.path)
        kept = apply(pantry.path).safety_backup
        caught(NotSupportedError, lambda: drill(pantry.path, kept))
        with promptvault_app.opened(pantry.path) as (app, repository):
            part = Creation(app, repository, timeout=5, tables=["members"]).apply()
        caught(BackupPartialError, lambda: drill(pantry.path, part.id))


def test_what_kept_the_proof_from_being_kept_is_told_and_the_drill_counts_all_the_same(deployed):
    made = create(deployed)
    (folder_of(deployed, made) / "verified.json").mkdir()
    done = drill(deployed)
    assert done.exit_status == Exit.OK
    assert made.id in done.remarks[0]
    assert "could not be recorded" in done.remarks[0]


def test_a_remark_of_another_time_or_form_is_worth_nothing(deployed):
    made = create(deployed)
    note = folder_of(deployed, made) / "verified.json"
    for text in ("", "[]", "\xff", "[" * 100_000, '{"verified_at": "9999-12-31T23:59:59Z"}', '{"drills": 3}'):
        note.write_text(text, encoding="latin-1")
        assert proven(deployed, made) == verification_record.Proven()
    drill(deployed)
    assert json.loads(note.read_text())["drills"]["user"]["rows"]
