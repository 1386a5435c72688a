"""Searches: what they find is what plain Python finds among the same rows, on every schema of the games."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbctl.config import Selection
from dbctl.errors import (
    NotSupportedError,
    RowMissingError,
    SchemaLacksError,
    SearchMissingError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import Window
from dbctl.profiles import loader
from dbctl.profiles.model.search import mistakes
from dbctl.services.app import app as apps
from dbctl.services.search import search
from dbctl.services.search.detail import one
from dbctl.services.search.search import Asked
from tests.shapes import flashpoint_web

SCHEMAS = ("document", "launcher", "extras")
WORD_COLUMNS = ("title", "alternateTitles", "developer", "publisher", "series")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("games")
    return {
        "document": flashpoint_web.document_flashpoint_db(folder / "document.sqlite"),
        "launcher": flashpoint_web.launcher_flashpoint_db(folder / "launcher.sqlite"),
        "extras": flashpoint_web.launcher_extras_db(folder / "extras.sqlite"),
    }


@contextmanager
def opened(path, profile="flashpoint-web", database="flashpoint"):
    with apps.opened(Selection(profile=str(profile), urls=[f"{database}={path}"]), timeout=5) as app:
        yield app


@pytest.fixture(scope="module", params=SCHEMAS)
def games(request, paths):
    """An app, and all its games with their links, read by plain SQL."""
    with opened(paths[request.param]) as app:
        yield app, rows_of(paths[request.param], request.param)


@pytest.fixture
def document(paths):
    with opened(paths["document"]) as app:
        yield app


@pytest.fixture
def launcher(paths):
    with opened(paths["launcher"]) as app:
        yield app


@pytest.fixture
def extras(paths):
    with opened(paths["extras"]) as app:
        yield app


def rows_of(path, schema):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        rows = {
            row["id"]: {**row, "tags": [], "platforms": [], "data": [], "apps": 0, "was": []}
            for row in connection.execute("select * from game")
        }
        alias = "tag_alias a on a.tagId" if schema != "document" else "tag a on a.id"
        for game, tag in connection.execute(
            f"select t.gameId, a.name from game_tags_tag t join {alias} = t.tagId"
        ):
            rows[game]["tags"].append(tag)
        for row in connection.execute("select * from game_data order by id"):
            rows[row["gameId"]]["data"].append(dict(row))
        if schema == "document":
            for row in rows.values():
                row["platforms"] = parts(row["platformsStr"])
        else:
            names = "select p.gameId, a.name from game_platforms_platform p join platform_alias a on a.platformId = p.platformId"
            for game, platform in connection.execute(names):
                rows[game]["platforms"].append(platform)
            for (game,) in connection.execute(
                "select parentGameId from additional_app where parentGameId is not null"
            ):
                rows[game]["apps"] += 1
            for new, old in connection.execute("select id, sourceId from game_redirect"):
                if new in rows:
                    rows[new]["was"].append(old)
    return list(rows.values())


def parts(text):
    return [part.strip() for part in (text or "").split(";") if part.strip()]


def folded(text):
    """Fold as SQLite does: ASCII only."""
    return "".join(letter.lower() if letter.isascii() else letter for letter in text or "")


def has(text, wanted):
    return folded(wanted) in folded(text)


def among(texts, wanted):
    return folded(wanted) in {folded(text) for text in texts}


def shown(row):
    return row["broken"] != 1 and row["extreme"] != 1


def found(app, *words, filters=(), query="", shown=(), sort=""):
    asked = Asked(words=words, filters=filters, query=query, shown=shown)
    page = search.find(app, "games", asked, Window(sort=sort), columns=["id"])
    assert page.total == len(page.items) == search.count(app, "games", asked).total
    return [row["id"] for row in page.items]


def expected(rows, test):
    return {row["id"] for row in rows if test(row)}


# Words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["puzzle"],
        ["PUZZLE", "golf"],
        ["alien", "mini"],
        ["100%"],
        ["50%"],
        ["_"],
        ["under_score"],
        ["Pure_Fun"],
        ["Also Known as 1"],
        ["O'Neill"],
        ['"quoted"'],
        ['"Head"'],
        ["[bold"],
        ["é"],
        ["日本"],
        ["🎮"],
        ["Mini Inc"],
        ["\\"],
        ["!"],
        ["'; drop table game; --"],
        ["studio", ""],
    ],
)
def test_every_word_is_found_literally_in_any_of_the_fields(games, words):
    app, rows = games
    assert set(found(app, *words)) == expected(
        rows, lambda row: shown(row) and all(any(has(row[c], word) for c in WORD_COLUMNS) for word in words)
    )


def test_a_percent_sign_and_an_underscore_stand_for_themselves(document):
    assert found(document, "100% pure_fun") == [flashpoint_web.game_id(7)]
    assert found(document, "1000 pure") == [flashpoint_web.game_id(8)]


def nothing(_row):
    return False


# Filters ---------------------------------------------------------------------------------------------------------

FILTERS = [
    (["platform=Flash"], lambda row: among(row["platforms"], "Flash")),
    (["platform=flash", "platform=HTML5"], lambda row: among(row["platforms"], "Flash") or among(row["platforms"], "HTML5")),
    (["platform=Director"], lambda row: among(row["platforms"], "Director")),
    (["-platform=Flash"], lambda row: not among(row["platforms"], "Flash")),
    (["-platform=Flash", "-platform=HTML5"], lambda row: not (among(row["platforms"], "Flash") or among(row["platforms"], "HTML5"))),
    (["platform="], lambda row: not row["platforms"]),
    (["platform:html"], lambda row: any(has(name, "html") for name in row["platforms"])),
    (["platform=Fla"], nothing),
    (["tag=Action"], lambda row: among(row["tags"], "Action")),
    (["tag=action", "tag=PUZZLE"], lambda row: among(row["tags"], "Action") and among(row["tags"], "Puzzle")),
    (["tag=Brain Teaser"], lambda row: among(row["tags"], "Brain Teaser")),
    (["tag:p", "-tag=Puzzle"], lambda row: any(has(t, "p") for t in row["tags"]) and not among(row["tags"], "Puzzle")),
    (["tag="], lambda row: not row["tags"]),
    (["-tag="], lambda row: bool(row["tags"])),
    (["developer=mini inc"], lambda row: among(parts(row["developer"]), "Mini Inc")),
    (["developer=PopCap; Mini Inc"], lambda row: folded(row["developer"]) == "popcap; mini inc"),
    (["developer=50% Studio"], lambda row: row["developer"] == "50% Studio"),
    (["developer=Mini"], nothing),
    (["dev:studio"], lambda row: has(row["developer"], "studio")),
    (["developer=O'Brien & Sons", "developer=Zéro"], lambda row: among(parts(row["developer"]), "O'Brien & Sons") or among(parts(row["developer"]), "Zéro")),
    (["developer="], lambda row: not row["developer"]),
    (["publisher=fourth press", "publisher=addicting games"], lambda row: folded(row["publisher"]) in {"fourth press", "addicting games"}),
    (["series=papa louie", "series=Family"], lambda row: folded(row["series"]) in {"papa louie", "family"}),
    (["series=Alpha_Valley"], lambda row: row["series"] == "Alpha_Valley"),
    (["-series="], lambda row: bool(row["series"])),
    (["mode=Multiplayer"], lambda row: among(parts(row["playMode"]), "Multiplayer")),
    (["playMode=single player"], lambda row: among(parts(row["playMode"]), "Single Player")),
    (["playMode=Player"], nothing),
    (["language=en"], lambda row: among(parts(row["language"]), "en")),
    (["language=EN", "language=ja"], lambda row: among(parts(row["language"]), "en") or among(parts(row["language"]), "ja")),
    (["status=Playable"], lambda row: among(parts(row["status"]), "Playable")),
    (["library=theatre"], lambda row: row["library"] == "theatre"),
    (["library=arcade", "library=theatre"], lambda row: row["library"] in {"arcade", "theatre"}),
    (["title=alpha valley"], lambda row: folded(row["title"]) == "alpha valley"),
    (["title=Final Order", "title=nihongo"], lambda row: among([*parts(row["alternateTitles"]), row["title"]], "Final Order") or among([*parts(row["alternateTitles"]), row["title"]], "Nihongo")),
    (["title="], lambda row: not row["title"] and not row["alternateTitles"]),
    (["-title="], lambda row: row["title"] or row["alternateTitles"]),
    (["source:example"], lambda row: has(row["source"], "example")),
    (["notes:mouse"], lambda row: has(row["notes"], "mouse")),
    (["description:3"], lambda row: has(row["originalDescription"], "3")),
    (["lc:swf"], lambda row: has(row["launchCommand"], "swf") or any(has(d["launchCommand"], "swf") for d in row["data"])),
    (["year-from=2005"], lambda row: (row["releaseDate"] or "")[:4] >= "2005"),
    (["year-to=2005"], lambda row: "" < (row["releaseDate"] or "")[:4] <= "2005"),
    (["year-from=2005", "year-to=2005"], lambda row: (row["releaseDate"] or "")[:4] == "2005"),
    (["releaseDate=2005-03"], lambda row: (row["releaseDate"] or "").startswith("2005-03")),
    (["rd<2005"], lambda row: "" < (row["releaseDate"] or "")[:4] < "2005"),
    (["rd>2005-03"], lambda row: (row["releaseDate"] or "") >= "2005-03"),
    (["-rd>2005-03"], lambda row: (row["releaseDate"] or "") < "2005-03"),
    (["rd="], lambda row: not row["releaseDate"]),
    (["added-since=2022-03-10"], lambda row: (row["dateAdded"] or "") >= "2022-03-10"),
    (["added-since=2020-01-10T10:00:00Z"], lambda row: (row["dateAdded"] or "") >= "2020-01-10T10:00:00.000Z"),
    (["added-since=2020-01-10T11:00:00.001+01:00"], lambda row: (row["dateAdded"] or "") >= "2020-01-10T10:00:00.001Z"),
    (["modified-since=2024"], lambda row: (row["dateModified"] or "") >= "2024"),
    (["da=2020-01-16"], lambda row: (row["dateAdded"] or "")[:10] == "2020-01-16"),
    (["da:2022-12"], lambda row: (row["dateAdded"] or "")[:7] == "2022-12"),
    (["da<2022", "dm>2022-06"], lambda row: "" < (row["dateAdded"] or "") < "2022" and (row["dateModified"] or "") >= "2022-06"),
    (["da="], lambda row: not row["dateAdded"]),
    (["downloaded=yes"], lambda row: any(d["presentOnDisk"] == 1 for d in row["data"])),
    (["downloaded=no"], lambda row: not any(d["presentOnDisk"] == 1 for d in row["data"])),
    (["tags=2"], lambda row: len(row["tags"]) == 2),
    (["tags<2", "gd>0"], lambda row: len(row["tags"]) < 2 and row["data"]),
    (["-tags=0"], lambda row: bool(row["tags"])),
    (["gamedata=0"], lambda row: not row["data"]),
    (["swf=yes"], lambda row: has(row["launchCommand"], ".swf") or any(has(d["launchCommand"], ".swf") for d in row["data"])),
    (
        ["playable=no"],
        lambda row: among(row["platforms"], "Flash")
        and not (has(row["launchCommand"], ".swf") or any(has(d["launchCommand"], ".swf") for d in row["data"])),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("filters", "test"), FILTERS, ids=[" ".join(filters) for filters, _ in FILTERS])
def test_filters_find_what_they_say(games, filters, test):
    app, rows = games
    if any("tags" in text for text in filters):
        rows = [{**row, "tags": [t for t in row["tags"] if t != "Brain Teaser"]} for row in rows]
    assert set(found(app, filters=filters, shown=["all"])) == expected(rows, test)


def test_every_filter_above_finds_something_somewhere(paths):
    rows = [row for schema in SCHEMAS for row in rows_of(paths[schema], schema)]
    idle = [filters for filters, test in FILTERS if not expected(rows, test)]
    assert idle == [["platform=Fla"], ["developer=Mini"], ["playMode=Player"], ["playable=no"]]


def test_a_flash_game_without_a_flash_file_is_not_playable(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "update game set launchCommand = 'http://example.org/x.html' where id in (?, ?)",
            (flashpoint_web.game_id(1), flashpoint_web.game_id(15)),
        )
    with opened(path) as app:
        assert found(app, filters=["playable=no"]) == [
            flashpoint_web.game_id(1)
        ]  # the other starts .swf files of its data
        assert flashpoint_web.game_id(1) not in found(app, filters=["playable=yes"])


def test_conditions_of_different_kinds_are_all_met(document):
    asked = {"filters": ["library=arcade", "year-from=2005", "year-to=2005"], "query": "-#Action"}
    assert found(document, "alpha", **asked) == [flashpoint_web.game_id(2)]


@pytest.mark.parametrize("key", ["added-since=7d", "da>7d", "-da<7d"])
def test_a_length_of_time_counts_back_from_now(tmp_path, key):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=3)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, ago in enumerate(["-6 days", "-8 days", "+1 day"], 1):
            connection.execute(
                "update game set dateAdded = datetime('now', ?), broken = 0 where id = ?",
                (ago, flashpoint_web.game_id(number)),
            )
    with opened(path) as app:
        assert set(found(app, filters=[key])) == {flashpoint_web.game_id(1), flashpoint_web.game_id(3)}


def test_times_are_compared_in_every_form_that_rows_store(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=4)
    forms = [
        "2024-05-01 12:00:00",
        "2024-05-01T12:00:00.000Z",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T11:59:59Z",
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, form in enumerate(forms, 1):
            connection.execute(
                "update game set dateAdded = ? where id = ?", (form, flashpoint_web.game_id(number))
            )
    with opened(path) as app:
        assert len(found(app, filters=["da>2024-05-01T12:00"], shown=["all"])) == 3
        assert len(found(app, filters=["da=2024-05-01T12:00:00Z"], shown=["all"])) == 3
        assert len(found(app, filters=["da=2024-05-01"], shown=["all"])) == 4


# What differs between the schemas -----------------------------------------------------------------------------


def test_a_playlist_is_found_by_title_and_id_in_its_own_order(document):
    for name in ("favourites of 100%", flashpoint_web.PLAYLISTS[0][0]):
        ordered = found(document, filters=[f"playlist={name}"], shown=["extreme"])
        assert ordered == [flashpoint_web.game_id(number) for number in (15, 1, 9, 4)]
    assert found(document, filters=["playlist=Short Films"]) == [
        flashpoint_web.game_id(19),
        flashpoint_web.game_id(13),
    ]
    assert found(document, filters=["playlist=Empty [list]"]) == []


def test_another_order_beats_the_playlist_s_own(document):
    ordered = found(document, filters=["playlist=Favourites of 100%"], sort="title")
    assert ordered == [flashpoint_web.game_id(number) for number in (1, 9, 15)]


def test_a_playlist_of_the_launcher_is_said_to_be_a_file(launcher):
    with pytest.raises(NotSupportedError) as refused:
        found(launcher, filters=["playlist=Anything"])
    assert "JSON files" in refused.value.hint


@pytest.mark.parametrize(
    ("filters", "hint"),
    [
        ("pt>1h", "play time"),
        ("owner=x", "launcher adds"),
        ("addapps>0", "no additional"),
        ("platforms=2", "one platform"),
    ],
)
def test_what_the_document_s_schema_lacks_is_said(document, filters, hint):
    with pytest.raises(NotSupportedError) as refused:
        found(document, filters=[filters])
    assert hint in refused.value.hint


def test_the_launcher_s_counts_and_play_times_are_found(extras, paths):
    rows = rows_of(paths["extras"], "extras")
    for text, test in [
        ("addapps>0", lambda row: row["apps"] > 0),
        ("addapps=0", lambda row: row["apps"] == 0),
        ("platforms<2", lambda row: len(set(row["platforms"]) - {"Director"}) < 2),
        ("pt>30m", lambda row: (row["playtime"] or 0) > 1800),
        ("playcount>1", lambda row: (row["playCounter"] or 0) > 1),
        ("lastplayed>2020", lambda row: (row["lastPlayed"] or "") >= "2020"),
        ("ruffle=standalone", lambda row: row["ruffleSupport"] == "standalone"),
    ]:
        wanted = expected(rows, test)
        assert wanted, text
        assert set(found(extras, filters=[text], shown=["all"])) == wanted, text


def test_an_id_that_was_merged_into_another_finds_its_game(extras, paths):
    moved = [row for row in rows_of(paths["extras"], "extras") if row["was"]]
    assert moved
    for row in moved:
        for old in row["was"]:
            assert found(extras, query=f"id={old}", shown=["all"]) == [row["id"]]
            assert one(extras, "games", old).extra["id"] == row["id"]


def test_ids_that_were_merged_in_a_circle_are_missing(tmp_path):
    path = flashpoint_web.launcher_extras_db(tmp_path / "g.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "insert into game_redirect (sourceId, id) values ('a', 'b'), ('b', 'a'), ('c', 'd'), ('d', '20000000-0000-4000-8000-000000000001')"
        )
    with opened(path) as app:
        assert one(app, "games", "c").extra["title"] == "Parent of Two"
        with pytest.raises(RowMissingError):
            one(app, "games", "a")


def test_an_id_is_found_only_as_it_is_written(launcher):
    (key, *_) = found(launcher, filters=["id:b0f8"])
    assert found(launcher, filters=[f"id={key}"]) == [key]
    assert found(launcher, filters=[f"id={key.upper()}"]) == []


# Hidden rows ---------------------------------------------------------------------------------------------------


def test_broken_and_extreme_games_are_hidden_unless_asked_for(document):
    broken, extreme, both = (flashpoint_web.game_id(number) for number in (3, 4, 5))
    plain = set(found(document))
    assert plain & {broken, extreme, both} == set()
    assert flashpoint_web.game_id(6) in plain  # neither is said of it
    assert set(found(document, shown=["broken"])) - plain == {broken}
    assert set(found(document, shown=["extreme"])) - plain == {extreme}
    assert set(found(document, shown=["Broken", "extreme"])) == set(found(document, shown=["all"]))
    assert len(found(document, shown=["all"])) == 48


def test_naming_a_hidden_key_shows_its_rows(document):
    broken, extreme, both = (flashpoint_web.game_id(number) for number in (3, 4, 5))
    assert set(found(document, filters=["broken=yes"])) == {broken}
    assert set(found(document, query="extreme:yes")) == {extreme}
    assert set(found(document, filters=["broken=yes", "extreme=yes"])) == {both}
    assert len(found(document, query="broken:no")) == 45


def test_only_hidden_keys_can_be_shown(document):
    with pytest.raises(UsageError, match="broken, extreme"):
        found(document, shown=["tag"])


# Orders and pages ----------------------------------------------------------------------------------------------


def title_of(row):
    return folded(row.get("orderTitle") or row["title"])


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("title", title_of),
        ("", title_of),
        ("developer", lambda row: folded(row["developer"])),
        ("publisher", lambda row: folded(row["publisher"])),
        ("series", lambda row: folded(row["series"])),
        ("platform", lambda row: folded(row["platformName"])),
        ("releaseDate", lambda row: row["releaseDate"]),
        ("dateAdded", lambda row: row["dateAdded"]),
        ("dateModified", lambda row: row["dateModified"]),
    ],
)
def test_rows_come_in_the_order_asked_for_and_equal_ones_by_title(games, sort, value):
    app, rows = games
    rows = [row for row in rows if title_of(row) and value(row) is not None and row["developer"] is not None]
    here = {row["id"] for row in rows}
    by_title = sorted(rows, key=lambda row: (title_of(row), row["id"]))
    ordered = [row["id"] for row in sorted(by_title, key=value)]
    assert [key for key in found(app, shown=["all"], sort=sort) if key in here] == ordered
    descending = [row["id"] for row in sorted(by_title, key=value, reverse=True)]
    if sort not in {"", "title"}:
        assert [key for key in found(app, shown=["all"], sort=f"-{sort}") if key in here] == descending


def test_rows_without_a_value_come_last_in_both_directions(extras):
    for sort in ("lastPlayed", "-lastPlayed"):
        page = search.find(extras, "games", Asked(shown=["all"]), Window(sort=sort), columns=["lastPlayed"])
        played = [row["lastPlayed"] for row in page.items]
        dated = [moment for moment in played if moment is not None]
        assert dated
        assert played == sorted(dated, reverse=sort[0] == "-") + [None] * (len(played) - len(dated))


def test_the_longest_played_come_first_with_descending_playtime(extras):
    page = search.find(extras, "games", Asked(shown=["all"]), Window(sort="-playtime"), columns=["playtime"])
    times = [row["playtime"] for row in page.items]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0


def test_random_is_another_order_of_the_same_rows(launcher):
    orders = [tuple(found(launcher, "puzzle", sort="random")) for _ in range(3)]
    assert len({frozenset(order) for order in orders}) == 1
    assert len(set(orders)) > 1


def test_an_unknown_order_is_answered_with_those_there_are(launcher):
    with pytest.raises(UsageError, match=r"did you mean title.*known: title, releaseDate"):
        found(launcher, sort="titel")


def test_an_order_may_be_asked_for_by_its_column(document):
    assert found(document, sort="-platformName") == found(document, sort="-platform")


def test_an_order_that_the_schema_lacks_is_said(document):
    with pytest.raises(SchemaLacksError, match="lastPlayed"):
        found(document, sort="lastPlayed")


def test_a_page_is_read_through_an_index_where_one_has_its_order(document, launcher):
    def plan_of(app, asked, window):
        told = search.explain(app, "games", asked, window)
        return " ".join(step.step for step in told.plan), told.full_scans

    for sort in ("", "title"):
        plan, full_scans = plan_of(document, Asked(), Window(limit=5, sort=sort))
        assert "USING INDEX idx_game_orderTitle (orderTitle>?)" in plan
        assert full_scans == []
    for app, asked, window in [
        (document, Asked(filters=["tag=x"]), Window(limit=5)),
        (document, Asked(words=["x"]), Window(limit=5)),
        (document, Asked(), Window(limit=5, sort="-title")),
        (document, Asked(), Window()),
        (launcher, Asked(), Window(limit=5)),
    ]:
        assert "orderTitle>?" not in plan_of(app, asked, window)[0]


def test_pages_of_an_index_put_together_are_in_the_order_of_the_whole(games):
    app, rows = games
    for shown in ([], ["all"]):
        whole = found(app, shown=shown)
        paged = []
        while len(paged) < len(whole):
            window = Window(limit=7, offset=len(paged))
            page = search.find(app, "games", Asked(shown=shown), window, columns=["id", "title"])
            assert page.total == len(whole)
            paged += [row["id"] for row in page.items]
        assert paged == whole
    titles = {row["id"]: (row["orderTitle"], row["title"]) for row in rows}
    assert "" in {order for order, _ in titles.values()}


@pytest.mark.parametrize("limit", [1, 7, 50, 96, 97, 1000, 2**63 - 1])
def test_pages_put_together_are_the_whole_and_the_total_is_right(launcher, limit):
    whole = found(launcher, "100%")
    assert len(whole) == 96
    told, offset = [], 0
    while True:
        page = search.find(
            launcher, "games", Asked(words=["100%"]), Window(limit=limit, offset=offset), columns=["id"]
        )
        assert (page.total, page.offset) == (96, offset)
        told += [row["id"] for row in page.items]
        offset += len(page.items)
        assert page.has_more == (offset < 96)
        if not page.has_more:
            break
    assert told == whole


def test_a_page_behind_the_end_is_empty_and_knows_the_total(launcher):
    page = search.find(launcher, "games", Asked(words=["100%"]), Window(limit=5, offset=2**62))
    assert (page.items, page.total, page.has_more) == ([], 96, False)


def test_an_item_has_the_row_s_own_columns_as_far_as_the_schema_has_them(document, launcher):
    for app, further in ((document, {"logoPath", "screenshotPath"}), (launcher, set())):
        page = search.find(app, "games", Asked(), Window(limit=1))
        assert set(page.items[0]) == further | {
            "id", "title", "alternateTitles", "developer", "publisher", "series", "platformName", "platformsStr", "playMode",
            "language", "releaseDate", "library", "status", "broken", "extreme", "tagsStr", "dateAdded", "dateModified", "archiveState",
        }  # fmt: skip


def test_any_column_of_the_table_can_be_asked_for(launcher):
    page = search.find(launcher, "games", Asked(), Window(limit=1), columns=["ruffleSupport", "id"])
    assert list(page.items[0]) == ["ruffleSupport", "id"]
    with pytest.raises(UsageError, match="did you mean title"):
        search.find(launcher, "games", Asked(), Window(limit=1), columns=["titel"])


# One row --------------------------------------------------------------------------------------------------------


def test_one_game_has_its_data_with_what_is_on_disk_first_then_the_newest(document):
    game = one(document, "games", flashpoint_web.game_id(15)).extra
    assert [(row["presentOnDisk"], row["title"]) for row in game["data"]] == [
        (1, "Data 2"),
        (0, "Data 3"),
        (0, "Data 1"),
    ]
    assert game["launch"] == "http://example.org/present.swf"
    assert (game["title"], game["tags"], game["platforms"]) == ("Two Sets of Data", ["Puzzle"], ["Flash"])


def test_a_launch_command_of_the_game_comes_before_path_and_parameters(document):
    assert (
        one(document, "games", flashpoint_web.game_id(17)).extra["launch"] == "http://example.org/17/game.swf"
    )
    assert one(document, "games", flashpoint_web.game_id(6)).extra["launch"] is None


def test_without_a_launch_command_path_and_parameters_start_the_game(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=2)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update game set launchCommand = ''")
        connection.execute("update game_data set launchCommand = null, path = 'a b.swf'")
        connection.execute(
            "update game_data set parameters = '-full' where gameId = ?", (flashpoint_web.game_id(1),)
        )
    with opened(path) as app:
        assert one(app, "games", flashpoint_web.game_id(1)).extra["launch"] == "a b.swf -full"
        assert one(app, "games", flashpoint_web.game_id(2)).extra["launch"] == "a b.swf"


def test_one_game_has_its_extras_tags_and_platforms(document, extras):
    game = one(document, "games", flashpoint_web.game_id(1)).extra
    assert game["extras"] == [{"id": flashpoint_web.game_id(2), "title": "alpha valley 2"}]
    assert game["tags"] == ["Action", "Platformer", "Puzzle"]
    assert one(document, "games", flashpoint_web.game_id(18)).extra["platforms"] == ["Flash", "HTML5"]
    assert one(document, "games", flashpoint_web.game_id(6)).extra["extras"] == []
    parent = one(extras, "games", "20000000-0000-4000-8000-000000000001").extra
    assert [child["title"] for child in parent["extras"]] == ["First Child", "Second Child"]


def test_details_of_every_game_are_what_plain_sql_finds(games):
    app, rows = games
    for row in rows[:60]:
        game = one(app, "games", row["id"]).extra
        assert set(game["tags"]) == set(row["tags"]) - {"Brain Teaser"}
        assert set(game["platforms"]) == set(row["platforms"]) - {"Director"}
        assert len(game["additional_apps"]) == row["apps"]
        assert sorted(entry["id"] for entry in game["data"]) == [entry["id"] for entry in row["data"]]


@pytest.mark.parametrize("key", ["nope", "", "%", "'", "00000000"])
def test_an_unknown_id_is_said_to_be_missing(games, key):
    with pytest.raises(RowMissingError):
        one(games[0], "games", key)


# Words that are wrong, or hostile ---------------------------------------------------------------------------------


def test_an_unknown_key_is_answered_with_those_there_are(launcher):
    with pytest.raises(UsageError, match=r"no key 'plattform' \(did you mean platform.*known: id, title"):
        found(launcher, filters=["plattform=Flash"])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tag",
        "=",
        "=x",
        "-",
        "tag:",
        "da>",
        "da=7d",
        "da=2024-13",
        "da>0000",
        "da>99999y",
        "tags=1.5",
        "tags>x",
        "title<x",
    ],
)
def test_a_filter_that_says_nothing_sensible_is_refused(launcher, text):
    with pytest.raises((UsageError, ValueInvalidError)):
        found(launcher, filters=[text])


@pytest.mark.parametrize("word", ["x" * 60_000, "%" * 60_000, "a\0b", "\udcff"])
@pytest.mark.parametrize(
    "way",
    [
        lambda word: {"words": [word]},
        lambda word: {"filters": [f"title:{word}"]},
        lambda word: {"query": f'"{word}"'},
    ],
)
def test_text_that_no_database_looks_for_is_refused(launcher, way, word):
    with pytest.raises(ValueInvalidError):
        search.find(launcher, "games", Asked(**way(word)), Window())
    with pytest.raises(ValueInvalidError):
        one(launcher, "games", word)


def test_the_longest_words_and_the_most_terms_are_answered(launcher):
    assert found(launcher, "%" * 5_000) == []
    assert found(launcher, "é" * 5_000) == []
    assert len(found(launcher, *["puzzle"] * 100)) == len(found(launcher, "puzzle"))
    with pytest.raises(ValueInvalidError, match="101 terms"):
        found(launcher, *["puzzle"] * 101)


@settings(max_examples=150)
@given(text=st.text(max_size=30), how=st.sampled_from(["word", "query", "filter", "contains", "tag"]))
def test_any_text_is_answered_or_refused(paths, text, how):
    with opened(paths["extras"]) as app:
        try:
            found(
                app,
                *([text] if how == "word" else []),
                filters={
                    "filter": [f"title={text}"],
                    "contains": [f"dev:{text}"],
                    "tag": [f"-tag={text}"],
                }.get(how, []),
                query=text if how == "query" else "",
            )
        except (ValueInvalidError, UsageError):
            return


def test_a_search_that_the_app_does_not_have_is_answered_with_those_it_has(launcher):
    with pytest.raises(SearchMissingError) as missing:
        search.find(launcher, "prompts", Asked(), Window())
    assert "games" in missing.value.hint
    with pytest.raises(UsageError, match="games"):
        search.find(launcher, "", Asked(), Window())


def test_text_that_is_not_utf_8_is_found_around_and_handed_over(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=2)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "update game set developer = cast(x'ff41' as text) where id = ?", (flashpoint_web.game_id(1),)
        )
    with opened(path) as app:
        assert set(found(app, "alpha")) == {flashpoint_web.game_id(1), flashpoint_web.game_id(2)}
        assert found(app, filters=["developer:A"]) == [flashpoint_web.game_id(1)]
        assert one(app, "games", flashpoint_web.game_id(1)).extra["developer"] == "\udcffA"


# How it is found --------------------------------------------------------------------------------------------------


def test_explain_tells_sql_parameters_plan_and_whole_reads(launcher):
    told = search.explain(
        launcher, "games", Asked(words=['"a b"'], filters=["tag=x"], query="-#y"), Window(limit=5)
    )
    assert told.understood == '"a b" tag=x -tag:y'
    assert told.sql.startswith("select ")
    assert {"%a b%", "x", "%y%", 5} <= set(told.parameters)
    assert told.plan
    assert search.explain(launcher, "games", Asked(filters=["tag=x"]), Window()).full_scans == []
    assert len(search.explain(launcher, "games", Asked(words=["x"]), Window()).full_scans) == 1


def test_the_bytes_and_the_directory_of_the_file_never_change(tmp_path):
    makers = {
        "l": flashpoint_web.launcher_flashpoint_db,
        "e": flashpoint_web.launcher_extras_db,
        "d": flashpoint_web.document_flashpoint_db,
    }
    for name, make in makers.items():
        path = make(tmp_path / name / "flashpoint.sqlite")
        before = (path.read_bytes(), path.stat().st_mtime_ns, [entry.name for entry in path.parent.iterdir()])
        with opened(path) as app:
            key = found(app, "a", filters=["-tag=x", "-developer=x"], sort="-dateAdded")[0]
            one(app, "games", key)
            search.explain(app, "games", Asked(words=["a"]), Window())
            assert not hasattr(app.reader("flashpoint"), "insert")
        assert (
            path.read_bytes(),
            path.stat().st_mtime_ns,
            [entry.name for entry in path.parent.iterdir()],
        ) == before


# Profiles ---------------------------------------------------------------------------------------------------------

LARDER = """
schema = "dbctl.profile/1"
name = "larder"
title = "Larder"
time = "epoch-ms"

[databases.pantry]
engines = ["sqlite"]
mode = "read-only"

[[search]]
name = "recipes"
database = "pantry"
table = "recipes"
id = "recipe_uuid"
words = ["title", "body"]
show = ["recipe_uuid", "title", 'a "pinch"', "nowhere?"]
sort = [{ name = "added", columns = ["added_ms"], kind = "time" }, { name = "title", columns = ["title"] }]
key = [
    { names = ["label"], path = ["recipe_uuid -> recipe_labels.recipe_uuid"], at = ["label"], every = true },
    { names = ["labels"], kind = "count", path = ["recipe_uuid -> recipe_labels.recipe_uuid"] },
    { names = ["since"], kind = "time", bound = "from", columns = ["added_ms"] },
    { names = ["until"], kind = "time", bound = "until", columns = ["added_ms"] },
    { names = ["cook"], path = ["member_uuid -> members.member_uuid"], at = ["handle"] },
    { names = ["active"], kind = "boolean", path = ["member_uuid -> members.member_uuid"], at = ["enabled"] },
    { names = ["shelf"], path = ["recipe_uuid -> order.recipe_uuid"], at = ["group"], order = "index", kind = "number" },
    { names = ["pinch"], columns = ['a "pinch"'] },
]
detail = [{ name = "labels", path = ["recipe_uuid -> recipe_labels.recipe_uuid"], columns = ["label"], order = ["-label"] }, { name = "twins", path = ['cuisine -> recipes.a "pinch"'], columns = ["title"] }]
"""


@pytest.fixture
def larder(tmp_path):
    profile = tmp_path / "larder.toml"
    profile.write_text(LARDER, encoding="utf-8")
    with opened(flashpoint_web.sixth_app_db(tmp_path / "larder.db"), profile, "pantry") as app:
        yield app


@pytest.mark.parametrize(
    ("words", "filters", "numbers"),
    [
        ((), [], [1, 2, 3, 4]),
        (("lentil*",), [], [1, 4]),
        (("100%",), [], [2]),
        (("親子",), [], [3]),
        ((), ["label=vegan"], [1, 2, 4]),
        ((), ["label=vegan", "label=soup"], [1]),
        ((), ["labels=0"], [3]),
        ((), ["since=2024-07"], [3, 4]),
        ((), ["until=2024-04-01"], [1, 2]),
        ((), ["cook=ANA"], [1, 2]),
        ((), ["-cook=ana"], [3, 4]),
        ((), ["active=yes"], [1, 2, 3, 4]),
        ((), ["shelf<3"], [2, 1]),
        ((), ["pinch=salt"], [1]),
        ((), ["pinch="], [2, 3]),
    ],
)
def test_an_app_never_heard_of_is_searched_by_its_profile_alone(larder, words, filters, numbers):
    page = search.find(larder, "recipes", Asked(words=words, filters=filters), Window())
    assert [int(str(row["recipe_uuid"])[-1]) for row in page.items] == numbers
    assert all(set(row) == {"recipe_uuid", "title", 'a "pinch"'} for row in page.items)


def test_a_search_that_speaks_only_words_takes_keys_for_words(larder):
    page = search.find(larder, "recipes", Asked(query='-"Rye" cook=ana'), Window())
    assert page.items == []
    assert search.count(larder, "recipes", Asked(query="-rye")).total == 3


def test_details_follow_the_profile(larder):
    assert one(larder, "recipes", "b2c8d1ef-0000-4000-8000-000000000001").extra["labels"] == ["vegan", "soup"]


def test_a_link_that_leads_nowhere_has_nothing_at_its_end(larder):
    assert one(larder, "recipes", "b2c8d1ef-0000-4000-8000-000000000004").extra["twins"] == []


def test_the_searches_that_ship_are_sound():
    for name in loader.names():
        for section in loader.load(name).search:
            assert list(mistakes(section)) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{ names = ["label", "x"] }', "neither columns"),
        ('{ names = ["x", "Label"], columns = ["title"] }', "also means x"),
        ('{ names = ["x"], columns = ["title"], hidden = true }', "only a boolean"),
        ('{ names = ["x"], columns = ["title"], bound = "from" }', "only a date"),
        ('{ names = ["x"], path = ["a -> b.c"] }', "leads to no column"),
        ('{ names = ["x"], columns = ["title"], at = ["y"] }', "belongs to a path"),
        ('{ names = ["x"], kind = "count", path = ["a -> b.c", "d -> e.f"] }', "one link"),
    ],
)
def test_a_key_that_contradicts_itself_is_a_mistake(tmp_path, line, reason):
    path = tmp_path / "wrong.toml"
    path.write_text(LARDER.replace("key = [\n", f"key = [\n    {line},\n"), encoding="utf-8")
    told = [text for _, text in mistakes(loader.load(str(path)).search[0])]
    assert any(reason in text for text in told), told
