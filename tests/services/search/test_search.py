"""Searches return the same rows as a filter in Python, for every schema of the games."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing, contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbctl.config.sections import Selection
from dbctl.errors.databases import RowNotFoundError
from dbctl.errors.usage import (
    NotSupportedError,
    SchemaMismatchError,
    SearchMissingError,
    UsageError,
    ValueInvalidError,
)
from dbctl.model import PageRequest
from dbctl.profiles import loader
from dbctl.profiles.model.search import validate_search
from dbctl.services.search import search
from dbctl.services.search.detail import read_detail
from dbctl.services.search.request import SearchRequest
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
def open_app(path, profile="flashpoint-web", database="flashpoint"):
    from dbctl.services.app.session import open_app

    with open_app(Selection(profile=str(profile), urls=[f"{database}={path}"]), timeout=5) as app:
        yield app


@pytest.fixture(scope="module", params=SCHEMAS)
def games(request, paths):
    """Yield an app and all its games with their related rows, which plain SQL reads."""
    with open_app(paths[request.param]) as app:
        yield app, read_rows(paths[request.param], request.param)


@pytest.fixture
def document(paths):
    with open_app(paths["document"]) as app:
        yield app


@pytest.fixture
def launcher(paths):
    with open_app(paths["launcher"]) as app:
        yield app


@pytest.fixture
def extras(paths):
    with open_app(paths["extras"]) as app:
        yield app


def read_rows(path, schema):
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
                row["platforms"] = split_list(row["platformsStr"])
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


def split_list(text):
    return [part.strip() for part in (text or "").split(";") if part.strip()]


def fold_ascii(text):
    """Convert ASCII letters to lower case, as SQLite does to compare text."""
    return "".join(character.lower() if character.isascii() else character for character in text or "")


def contains(text, part):
    return fold_ascii(part) in fold_ascii(text)


def is_in(texts, value):
    return fold_ascii(value) in {fold_ascii(text) for text in texts}


def is_visible(row):
    return row["broken"] != 1 and row["extreme"] != 1


def find_ids(app, *words, filters=(), query="", show_hidden=(), sort=""):
    request = SearchRequest(words=words, filters=filters, query=query, show_hidden=show_hidden)
    page = search.find(app, "games", request, PageRequest(sort=sort), columns=["id"])
    assert page.total == len(page.items) == search.count(app, "games", request).count.total
    return [row["id"] for row in page.items]


def select_ids(rows, test):
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
def test_words_are_found_literally_in_any_text_column(games, words):
    app, rows = games
    assert set(find_ids(app, *words)) == select_ids(
        rows,
        lambda row: (
            is_visible(row) and all(any(contains(row[c], word) for c in WORD_COLUMNS) for word in words)
        ),
    )


def test_percent_and_underscore_are_literal(document):
    assert find_ids(document, "100% pure_fun") == [flashpoint_web.game_id(7)]
    assert find_ids(document, "1000 pure") == [flashpoint_web.game_id(8)]


def matches_nothing(_row):
    return False


# Filters -------------------------------------------------------------------------------------------------------

FILTERS = [
    (["platform=Flash"], lambda row: is_in(row["platforms"], "Flash")),
    (["platform=flash", "platform=HTML5"], lambda row: is_in(row["platforms"], "Flash") or is_in(row["platforms"], "HTML5")),
    (["platform=Director"], lambda row: is_in(row["platforms"], "Director")),
    (["-platform=Flash"], lambda row: not is_in(row["platforms"], "Flash")),
    (["-platform=Flash", "-platform=HTML5"], lambda row: not (is_in(row["platforms"], "Flash") or is_in(row["platforms"], "HTML5"))),
    (["platform="], lambda row: not row["platforms"]),
    (["platform:html"], lambda row: any(contains(name, "html") for name in row["platforms"])),
    (["platform=Fla"], matches_nothing),
    (["tag=Action"], lambda row: is_in(row["tags"], "Action")),
    (["tag=action", "tag=PUZZLE"], lambda row: is_in(row["tags"], "Action") and is_in(row["tags"], "Puzzle")),
    (["tag=Brain Teaser"], lambda row: is_in(row["tags"], "Brain Teaser")),
    (["tag:p", "-tag=Puzzle"], lambda row: any(contains(t, "p") for t in row["tags"]) and not is_in(row["tags"], "Puzzle")),
    (["tag="], lambda row: not row["tags"]),
    (["-tag="], lambda row: bool(row["tags"])),
    (["developer=mini inc"], lambda row: is_in(split_list(row["developer"]), "Mini Inc")),
    (["developer=PopCap; Mini Inc"], lambda row: fold_ascii(row["developer"]) == "popcap; mini inc"),
    (["developer=50% Studio"], lambda row: row["developer"] == "50% Studio"),
    (["developer=Mini"], matches_nothing),
    (["dev:studio"], lambda row: contains(row["developer"], "studio")),
    (["developer=O'Brien & Sons", "developer=Zéro"], lambda row: is_in(split_list(row["developer"]), "O'Brien & Sons") or is_in(split_list(row["developer"]), "Zéro")),
    (["developer="], lambda row: not row["developer"]),
    (["publisher=fourth press", "publisher=addicting games"], lambda row: fold_ascii(row["publisher"]) in {"fourth press", "addicting games"}),
    (["series=papa louie", "series=Family"], lambda row: fold_ascii(row["series"]) in {"papa louie", "family"}),
    (["series=Alpha_Valley"], lambda row: row["series"] == "Alpha_Valley"),
    (["-series="], lambda row: bool(row["series"])),
    (["mode=Multiplayer"], lambda row: is_in(split_list(row["playMode"]), "Multiplayer")),
    (["playMode=single player"], lambda row: is_in(split_list(row["playMode"]), "Single Player")),
    (["playMode=Player"], matches_nothing),
    (["language=en"], lambda row: is_in(split_list(row["language"]), "en")),
    (["language=EN", "language=ja"], lambda row: is_in(split_list(row["language"]), "en") or is_in(split_list(row["language"]), "ja")),
    (["status=Playable"], lambda row: is_in(split_list(row["status"]), "Playable")),
    (["library=theatre"], lambda row: row["library"] == "theatre"),
    (["library=arcade", "library=theatre"], lambda row: row["library"] in {"arcade", "theatre"}),
    (["title=alpha valley"], lambda row: fold_ascii(row["title"]) == "alpha valley"),
    (["title=Final Order", "title=nihongo"], lambda row: is_in([*split_list(row["alternateTitles"]), row["title"]], "Final Order") or is_in([*split_list(row["alternateTitles"]), row["title"]], "Nihongo")),
    (["title="], lambda row: not row["title"] and not row["alternateTitles"]),
    (["-title="], lambda row: row["title"] or row["alternateTitles"]),
    (["source:example"], lambda row: contains(row["source"], "example")),
    (["notes:mouse"], lambda row: contains(row["notes"], "mouse")),
    (["description:3"], lambda row: contains(row["originalDescription"], "3")),
    (["lc:swf"], lambda row: contains(row["launchCommand"], "swf") or any(contains(d["launchCommand"], "swf") for d in row["data"])),
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
    (["files=downloaded"], lambda row: any(d["presentOnDisk"] == 1 for d in row["data"])),
    (["files:missing"], lambda row: any(d["presentOnDisk"] == 0 for d in row["data"])),
    (["files=not-needed"], lambda row: any(d["presentOnDisk"] is None for d in row["data"])),
    (["-presentOnDisk=missing"], lambda row: not any(d["presentOnDisk"] == 0 for d in row["data"])),
    (["tags=2"], lambda row: len(row["tags"]) == 2),
    (["tags<2", "gd>0"], lambda row: len(row["tags"]) < 2 and row["data"]),
    (["-tags=0"], lambda row: bool(row["tags"])),
    (["gamedata=0"], lambda row: not row["data"]),
    (["swf=yes"], lambda row: contains(row["launchCommand"], ".swf") or any(contains(d["launchCommand"], ".swf") for d in row["data"])),
    (
        ["playable=no"],
        lambda row: is_in(row["platforms"], "Flash")
        and not (contains(row["launchCommand"], ".swf") or any(contains(d["launchCommand"], ".swf") for d in row["data"])),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("filters", "test"), FILTERS, ids=[" ".join(filters) for filters, _ in FILTERS])
def test_filters_select_matching_rows(games, filters, test):
    app, rows = games
    if any("tags" in text for text in filters):
        rows = [{**row, "tags": [t for t in row["tags"] if t != "Brain Teaser"]} for row in rows]
    assert set(find_ids(app, filters=filters, show_hidden=["all"])) == select_ids(rows, test)


def test_unknown_name_of_a_value_lists_the_names(document):
    with pytest.raises(ValueInvalidError, match="downloaded, missing, not-needed"):
        find_ids(document, filters=["files=yes"])


@pytest.mark.parametrize("schema", ["document", "launcher"])
def test_tags_are_searched_with_their_descriptions(paths, schema, tmp_path):
    path = shutil.copy(paths[schema], tmp_path / "copy.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update tag set description = 'games with blocks' where id = 1")
        names = (
            "select name from tag where id = 1"
            if schema == "document"
            else "select name from tag_alias where tagId = 1 order by name"
        )
        tags = [name for (name,) in connection.execute(names)]
    with open_app(path) as app:
        page = search.find(app, "tags", SearchRequest(filters=["description:blocks"]), PageRequest())
        assert [(row["name"], row["description"]) for row in page.items] == [
            (tag, "games with blocks") for tag in tags
        ]


def test_filters_of_these_tests_match_some_row(paths):
    rows = [row for schema in SCHEMAS for row in read_rows(paths[schema], schema)]
    idle = [filters for filters, test in FILTERS if not select_ids(rows, test)]
    assert idle == [["platform=Fla"], ["developer=Mini"], ["playMode=Player"], ["playable=no"]]


def test_flash_game_without_swf_is_not_playable(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "update game set launchCommand = 'http://example.org/x.html' where id in (?, ?)",
            (flashpoint_web.game_id(1), flashpoint_web.game_id(15)),
        )
    with open_app(path) as app:
        assert find_ids(app, filters=["playable=no"]) == [
            flashpoint_web.game_id(1)
        ]  # the other game starts an .swf file of its data
        assert flashpoint_web.game_id(1) not in find_ids(app, filters=["playable=yes"])


def test_conditions_of_different_kinds_are_combined(document):
    conditions = {"filters": ["library=arcade", "year-from=2005", "year-to=2005"], "query": "-#Action"}
    assert find_ids(document, "alpha", **conditions) == [flashpoint_web.game_id(2)]


@pytest.mark.parametrize("key", ["added-since=7d", "da>7d", "-da<7d"])
def test_duration_counts_back_from_now(tmp_path, key):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=3)
    with closing(sqlite3.connect(path)) as connection, connection:
        for number, offset in enumerate(["-6 days", "-8 days", "+1 day"], 1):
            connection.execute(
                "update game set dateAdded = datetime('now', ?), broken = 0 where id = ?",
                (offset, flashpoint_web.game_id(number)),
            )
    with open_app(path) as app:
        assert set(find_ids(app, filters=[key])) == {flashpoint_web.game_id(1), flashpoint_web.game_id(3)}


def test_times_are_compared_in_all_stored_forms(tmp_path):
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
    with open_app(path) as app:
        assert len(find_ids(app, filters=["da>2024-05-01T12:00"], show_hidden=["all"])) == 3
        assert len(find_ids(app, filters=["da=2024-05-01T12:00:00Z"], show_hidden=["all"])) == 3
        assert len(find_ids(app, filters=["da=2024-05-01"], show_hidden=["all"])) == 4


# Differences between the schemas -------------------------------------------------------------------------------


def test_playlist_filter_keeps_playlist_order(document):
    for name in ("favourites of 100%", flashpoint_web.PLAYLISTS[0][0]):
        ordered = find_ids(document, filters=[f"playlist={name}"], show_hidden=["extreme"])
        assert ordered == [flashpoint_web.game_id(number) for number in (15, 1, 9, 4)]
    assert find_ids(document, filters=["playlist=Short Films"]) == [
        flashpoint_web.game_id(19),
        flashpoint_web.game_id(13),
    ]
    assert find_ids(document, filters=["playlist=Empty [list]"]) == []


def test_requested_order_replaces_playlist_order(document):
    ordered = find_ids(document, filters=["playlist=Favourites of 100%"], sort="title")
    assert ordered == [flashpoint_web.game_id(number) for number in (1, 9, 15)]


def test_launcher_playlists_are_refused_with_hint(launcher):
    with pytest.raises(NotSupportedError) as caught:
        find_ids(launcher, filters=["playlist=Anything"])
    assert "JSON files" in caught.value.hint


@pytest.mark.parametrize(
    ("filters", "hint"),
    [
        ("pt>1h", "play time"),
        ("owner=x", "launcher add"),
        ("addapps>0", "no additional"),
        ("platforms=2", "one platform"),
    ],
)
def test_missing_columns_are_refused_with_hint(document, filters, hint):
    with pytest.raises(NotSupportedError) as caught:
        find_ids(document, filters=[filters])
    assert hint in caught.value.hint


def test_launcher_counts_and_play_times_are_filtered(extras, paths):
    rows = read_rows(paths["extras"], "extras")
    for text, test in [
        ("addapps>0", lambda row: row["apps"] > 0),
        ("addapps=0", lambda row: row["apps"] == 0),
        ("platforms<2", lambda row: len(set(row["platforms"]) - {"Director"}) < 2),
        ("pt>30m", lambda row: (row["playtime"] or 0) > 1800),
        ("playcount>1", lambda row: (row["playCounter"] or 0) > 1),
        ("lastplayed>2020", lambda row: (row["lastPlayed"] or "") >= "2020"),
        ("ruffle=standalone", lambda row: row["ruffleSupport"] == "standalone"),
    ]:
        ids = select_ids(rows, test)
        assert ids, text
        assert set(find_ids(extras, filters=[text], show_hidden=["all"])) == ids, text


def test_merged_id_finds_its_game(extras, paths):
    rows = [row for row in read_rows(paths["extras"], "extras") if row["was"]]
    assert rows
    for row in rows:
        for old in row["was"]:
            assert find_ids(extras, query=f"id={old}", show_hidden=["all"]) == [row["id"]]
            assert read_detail(extras, "games", old).extra["id"] == row["id"]


def test_circular_merged_ids_are_not_found(tmp_path):
    path = flashpoint_web.launcher_extras_db(tmp_path / "g.sqlite")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "insert into game_redirect (sourceId, id) values ('a', 'b'), ('b', 'a'), ('c', 'd'), ('d', '20000000-0000-4000-8000-000000000001')"
        )
    with open_app(path) as app:
        assert read_detail(app, "games", "c").extra["title"] == "Parent of Two"
        with pytest.raises(RowNotFoundError):
            read_detail(app, "games", "a")


def test_ids_are_case_sensitive(launcher):
    (key, *_) = find_ids(launcher, filters=["id:b0f8"])
    assert find_ids(launcher, filters=[f"id={key}"]) == [key]
    assert find_ids(launcher, filters=[f"id={key.upper()}"]) == []


# Hidden rows ---------------------------------------------------------------------------------------------------


def test_broken_and_extreme_games_are_hidden_by_default(document):
    broken, extreme, broken_and_extreme = (flashpoint_web.game_id(number) for number in (3, 4, 5))
    plain = set(find_ids(document))
    assert plain & {broken, extreme, broken_and_extreme} == set()
    assert flashpoint_web.game_id(6) in plain  # both columns are NULL
    assert set(find_ids(document, show_hidden=["broken"])) - plain == {broken}
    assert set(find_ids(document, show_hidden=["extreme"])) - plain == {extreme}
    assert set(find_ids(document, show_hidden=["Broken", "extreme"])) == set(
        find_ids(document, show_hidden=["all"])
    )
    assert len(find_ids(document, show_hidden=["all"])) == 48


def test_filter_on_hidden_key_shows_its_rows(document):
    broken, extreme, broken_and_extreme = (flashpoint_web.game_id(number) for number in (3, 4, 5))
    assert set(find_ids(document, filters=["broken=yes"])) == {broken}
    assert set(find_ids(document, query="extreme:yes")) == {extreme}
    assert set(find_ids(document, filters=["broken=yes", "extreme=yes"])) == {broken_and_extreme}
    assert len(find_ids(document, query="broken:no")) == 45


def test_only_hidden_keys_can_be_shown(document):
    with pytest.raises(UsageError, match="broken, extreme"):
        find_ids(document, show_hidden=["tag"])


# Orders and pages ----------------------------------------------------------------------------------------------


def get_sort_title(row):
    return fold_ascii(row.get("orderTitle") or row["title"])


@pytest.mark.parametrize(
    ("sort", "value"),
    [
        ("title", get_sort_title),
        ("", get_sort_title),
        ("developer", lambda row: fold_ascii(row["developer"])),
        ("publisher", lambda row: fold_ascii(row["publisher"])),
        ("series", lambda row: fold_ascii(row["series"])),
        ("platform", lambda row: fold_ascii(row["platformName"])),
        ("releaseDate", lambda row: row["releaseDate"]),
        ("dateAdded", lambda row: row["dateAdded"]),
        ("dateModified", lambda row: row["dateModified"]),
    ],
)
def test_rows_are_sorted_by_requested_order_then_title(games, sort, value):
    app, rows = games
    rows = [
        row for row in rows if get_sort_title(row) and value(row) is not None and row["developer"] is not None
    ]
    ids = {row["id"] for row in rows}
    by_title = sorted(rows, key=lambda row: (get_sort_title(row), row["id"]))
    ordered = [row["id"] for row in sorted(by_title, key=value)]
    assert [key for key in find_ids(app, show_hidden=["all"], sort=sort) if key in ids] == ordered
    descending = [row["id"] for row in sorted(by_title, key=value, reverse=True)]
    if sort not in {"", "title"}:
        assert [
            key for key in find_ids(app, show_hidden=["all"], sort=f"-{sort}") if key in ids
        ] == descending


def test_rows_without_value_come_last_in_both_directions(extras):
    for sort in ("lastPlayed", "-lastPlayed"):
        page = search.find(
            extras,
            "games",
            SearchRequest(show_hidden=["all"]),
            PageRequest(sort=sort),
            columns=["lastPlayed"],
        )
        played = [row["lastPlayed"] for row in page.items]
        times = [time for time in played if time is not None]
        assert times
        assert played == sorted(times, reverse=sort[0] == "-") + [None] * (len(played) - len(times))


def test_descending_playtime_starts_with_longest(extras):
    page = search.find(
        extras,
        "games",
        SearchRequest(show_hidden=["all"]),
        PageRequest(sort="-playtime"),
        columns=["playtime"],
    )
    times = [row["playtime"] for row in page.items]
    assert times == sorted(times, reverse=True)
    assert times[0] > 0


def test_random_order_returns_the_same_rows(launcher):
    orders = [tuple(find_ids(launcher, "puzzle", sort="random")) for _ in range(3)]
    assert len({frozenset(order) for order in orders}) == 1
    assert len(set(orders)) > 1


def test_unknown_order_lists_known_orders(launcher):
    with pytest.raises(UsageError, match="known: title, releaseDate") as raised:
        find_ids(launcher, sort="titel")
    assert "'title'" in raised.value.hint


def test_order_can_be_named_by_column(document):
    assert find_ids(document, sort="-platformName") == find_ids(document, sort="-platform")


def test_order_missing_in_schema_is_refused(document):
    with pytest.raises(SchemaMismatchError, match="lastPlayed"):
        find_ids(document, sort="lastPlayed")


def test_page_in_default_order_uses_index(document, launcher):
    def read_plan(app, request, page_request):
        search_plan = search.explain(app, "games", request, page_request)
        return " ".join(step.step for step in search_plan.plan), search_plan.full_scans

    for sort in ("", "title"):
        plan, full_scans = read_plan(document, SearchRequest(), PageRequest(limit=5, sort=sort))
        assert "USING INDEX idx_game_orderTitle (orderTitle>?)" in plan
        assert full_scans == []
    for app, search_request, page_request in [
        (document, SearchRequest(filters=["tag=x"]), PageRequest(limit=5)),
        (document, SearchRequest(words=["x"]), PageRequest(limit=5)),
        (document, SearchRequest(), PageRequest(limit=5, sort="-title")),
        (document, SearchRequest(), PageRequest()),
        (launcher, SearchRequest(), PageRequest(limit=5)),
    ]:
        assert "orderTitle>?" not in read_plan(app, search_request, page_request)[0]


def test_index_pages_have_the_order_of_all_rows(games):
    app, rows = games
    for show_hidden in ([], ["all"]):
        all_ids = find_ids(app, show_hidden=show_hidden)
        page_ids = []
        while len(page_ids) < len(all_ids):
            page_request = PageRequest(limit=7, offset=len(page_ids))
            page = search.find(
                app, "games", SearchRequest(show_hidden=show_hidden), page_request, columns=["id", "title"]
            )
            assert page.total == len(all_ids)
            page_ids += [row["id"] for row in page.items]
        assert page_ids == all_ids
    titles = {row["id"]: (row["orderTitle"], row["title"]) for row in rows}
    assert "" in {order for order, _ in titles.values()}


@pytest.mark.parametrize("limit", [1, 7, 50, 96, 97, 1000, 2**63 - 1])
def test_pages_cover_all_rows_with_correct_total(launcher, limit):
    all_ids = find_ids(launcher, "100%")
    assert len(all_ids) == 96
    page_ids, offset = [], 0
    while True:
        page = search.find(
            launcher,
            "games",
            SearchRequest(words=["100%"]),
            PageRequest(limit=limit, offset=offset),
            columns=["id"],
        )
        assert (page.total, page.offset) == (96, offset)
        page_ids += [row["id"] for row in page.items]
        offset += len(page.items)
        assert page.has_more == (offset < 96)
        if not page.has_more:
            break
    assert page_ids == all_ids


def test_page_after_end_is_empty_with_total(launcher):
    page = search.find(launcher, "games", SearchRequest(words=["100%"]), PageRequest(limit=5, offset=2**62))
    assert (page.items, page.total, page.has_more) == ([], 96, False)


def test_items_have_profile_columns_of_the_schema(document, launcher):
    for app, extra_columns in ((document, {"logoPath", "screenshotPath"}), (launcher, set())):
        page = search.find(app, "games", SearchRequest(), PageRequest(limit=1))
        assert set(page.items[0]) == extra_columns | {
            "id", "title", "alternateTitles", "developer", "publisher", "series", "platformName", "platformsStr", "playMode",
            "language", "releaseDate", "library", "status", "broken", "extreme", "tagsStr", "dateAdded", "dateModified", "archiveState",
        }  # fmt: skip


def test_any_table_column_can_be_requested(launcher):
    page = search.find(
        launcher, "games", SearchRequest(), PageRequest(limit=1), columns=["ruffleSupport", "id"]
    )
    assert list(page.items[0]) == ["ruffleSupport", "id"]
    with pytest.raises(UsageError) as raised:
        search.find(launcher, "games", SearchRequest(), PageRequest(limit=1), columns=["titel"])
    assert "'title'" in raised.value.hint


# One row -------------------------------------------------------------------------------------------------------


def test_game_data_is_sorted_by_presence_then_date(document):
    game = read_detail(document, "games", flashpoint_web.game_id(15)).extra
    assert [(row["presentOnDisk"], row["title"]) for row in game["data"]] == [
        (1, "Data 2"),
        (0, "Data 3"),
        (0, "Data 1"),
    ]
    assert game["launch"] == "http://example.org/present.swf"
    assert (game["title"], game["tags"], game["platforms"]) == ("Two Sets of Data", ["Puzzle"], ["Flash"])


def test_launch_command_precedes_path_and_parameters(document):
    assert (
        read_detail(document, "games", flashpoint_web.game_id(17)).extra["launch"]
        == "http://example.org/17/game.swf"
    )
    assert read_detail(document, "games", flashpoint_web.game_id(6)).extra["launch"] is None


def test_path_and_parameters_replace_missing_launch_command(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=2)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update game set launchCommand = ''")
        connection.execute("update game_data set launchCommand = null, path = 'a b.swf'")
        connection.execute(
            "update game_data set parameters = '-full' where gameId = ?", (flashpoint_web.game_id(1),)
        )
    with open_app(path) as app:
        assert read_detail(app, "games", flashpoint_web.game_id(1)).extra["launch"] == "a b.swf -full"
        assert read_detail(app, "games", flashpoint_web.game_id(2)).extra["launch"] == "a b.swf"


def test_game_detail_has_extras_tags_and_platforms(document, extras):
    game = read_detail(document, "games", flashpoint_web.game_id(1)).extra
    assert game["extras"] == [{"id": flashpoint_web.game_id(2), "title": "alpha valley 2"}]
    assert game["tags"] == ["Action", "Platformer", "Puzzle"]
    assert read_detail(document, "games", flashpoint_web.game_id(18)).extra["platforms"] == ["Flash", "HTML5"]
    assert read_detail(document, "games", flashpoint_web.game_id(6)).extra["extras"] == []
    parent = read_detail(extras, "games", "20000000-0000-4000-8000-000000000001").extra
    assert [child["title"] for child in parent["extras"]] == ["First Child", "Second Child"]


def test_details_match_plain_sql(games):
    app, rows = games
    for row in rows[:60]:
        game = read_detail(app, "games", row["id"]).extra
        assert set(game["tags"]) == set(row["tags"]) - {"Brain Teaser"}
        assert set(game["platforms"]) == set(row["platforms"]) - {"Director"}
        assert len(game["additional_apps"]) == row["apps"]
        assert sorted(entry["id"] for entry in game["data"]) == [entry["id"] for entry in row["data"]]


@pytest.mark.parametrize("key", ["nope", "", "%", "'", "00000000"])
def test_unknown_id_is_not_found(games, key):
    with pytest.raises(RowNotFoundError):
        read_detail(games[0], "games", key)


# Invalid queries -----------------------------------------------------------------------------------------------


def test_unknown_key_lists_known_keys(launcher):
    with pytest.raises(UsageError, match="no key 'plattform'; known: id, title") as raised:
        find_ids(launcher, filters=["plattform=Flash"])
    assert "'platform'" in raised.value.hint


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
        "rd>2005-3",
        "rd<2005-03-9",
        "rd>20",
        "year-from=2005-3",
        "tags=1.5",
        "tags>x",
        "title<x",
    ],
)
def test_invalid_filters_are_refused(launcher, text):
    with pytest.raises((UsageError, ValueInvalidError)):
        find_ids(launcher, filters=[text])


@pytest.mark.parametrize("word", ["x" * 60_000, "%" * 60_000, "a\0b", "\udcff"])
@pytest.mark.parametrize(
    "create_request",
    [
        lambda word: {"words": [word]},
        lambda word: {"filters": [f"title:{word}"]},
        lambda word: {"query": f'"{word}"'},
    ],
)
def test_unsearchable_text_is_refused(launcher, create_request, word):
    with pytest.raises(ValueInvalidError):
        search.find(launcher, "games", SearchRequest(**create_request(word)), PageRequest())
    with pytest.raises(ValueInvalidError):
        read_detail(launcher, "games", word)


def test_longest_words_and_most_terms_are_accepted(launcher):
    assert find_ids(launcher, "%" * 5_000) == []
    assert find_ids(launcher, "é" * 5_000) == []
    assert len(find_ids(launcher, *["puzzle"] * 100)) == len(find_ids(launcher, "puzzle"))
    with pytest.raises(ValueInvalidError, match="101 terms"):
        find_ids(launcher, *["puzzle"] * 101)


@given(text=st.text(max_size=30), kind=st.sampled_from(["word", "query", "filter", "contains", "tag"]))
def test_any_text_is_searched_or_refused(paths, text, kind):
    with open_app(paths["extras"]) as app:
        try:
            find_ids(
                app,
                *([text] if kind == "word" else []),
                filters={
                    "filter": [f"title={text}"],
                    "contains": [f"dev:{text}"],
                    "tag": [f"-tag={text}"],
                }.get(kind, []),
                query=text if kind == "query" else "",
            )
        except (ValueInvalidError, UsageError):
            return


def test_unknown_search_lists_known_searches(launcher):
    with pytest.raises(SearchMissingError) as caught:
        search.find(launcher, "prompts", SearchRequest(), PageRequest())
    assert "games" in caught.value.hint
    with pytest.raises(UsageError, match="games"):
        search.find(launcher, "", SearchRequest(), PageRequest())


def test_invalid_utf8_is_searched_and_returned(tmp_path):
    path = flashpoint_web.document_flashpoint_db(tmp_path / "g.sqlite", games=2)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "update game set developer = cast(x'ff41' as text) where id = ?", (flashpoint_web.game_id(1),)
        )
    with open_app(path) as app:
        assert set(find_ids(app, "alpha")) == {flashpoint_web.game_id(1), flashpoint_web.game_id(2)}
        assert find_ids(app, filters=["developer:A"]) == [flashpoint_web.game_id(1)]
        assert read_detail(app, "games", flashpoint_web.game_id(1)).extra["developer"] == "\udcffA"


# Query plans and files -----------------------------------------------------------------------------------------


def test_explain_returns_sql_parameters_plan_and_full_scans(launcher):
    plan = search.explain(
        launcher,
        "games",
        SearchRequest(words=['"a b"'], filters=["tag=x"], query="-#y"),
        PageRequest(limit=5),
    )
    assert plan.query == '"a b" tag=x -tag:y'
    assert plan.sql.startswith("select ")
    assert {"%a b%", "x", "%y%", 5} <= set(plan.parameters)
    assert plan.plan
    assert search.explain(launcher, "games", SearchRequest(filters=["tag=x"]), PageRequest()).full_scans == []
    assert len(search.explain(launcher, "games", SearchRequest(words=["x"]), PageRequest()).full_scans) == 1


def test_search_changes_no_file(tmp_path):
    makers = {
        "l": flashpoint_web.launcher_flashpoint_db,
        "e": flashpoint_web.launcher_extras_db,
        "d": flashpoint_web.document_flashpoint_db,
    }
    for name, make in makers.items():
        path = make(tmp_path / name / "flashpoint.sqlite")
        before = (path.read_bytes(), path.stat().st_mtime_ns, [entry.name for entry in path.parent.iterdir()])
        with open_app(path) as app:
            key = find_ids(app, "a", filters=["-tag=x", "-developer=x"], sort="-dateAdded")[0]
            read_detail(app, "games", key)
            search.explain(app, "games", SearchRequest(words=["a"]), PageRequest())
            assert not hasattr(app.reader("flashpoint"), "insert")
        assert (
            path.read_bytes(),
            path.stat().st_mtime_ns,
            [entry.name for entry in path.parent.iterdir()],
        ) == before


# Profiles ------------------------------------------------------------------------------------------------------

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
    { names = ["label"], path = ["recipe_uuid -> recipe_labels.recipe_uuid"], path_columns = ["label"], every = true },
    { names = ["labels"], kind = "count", path = ["recipe_uuid -> recipe_labels.recipe_uuid"] },
    { names = ["since"], kind = "time", bound = "from", columns = ["added_ms"] },
    { names = ["until"], kind = "time", bound = "until", columns = ["added_ms"] },
    { names = ["cook"], path = ["member_uuid -> members.member_uuid"], path_columns = ["handle"] },
    { names = ["active"], kind = "boolean", path = ["member_uuid -> members.member_uuid"], path_columns = ["enabled"] },
    { names = ["shelf"], path = ["recipe_uuid -> order.recipe_uuid"], path_columns = ["group"], order = "index", kind = "number" },
    { names = ["pinch"], columns = ['a "pinch"'] },
]
detail = [{ name = "labels", path = ["recipe_uuid -> recipe_labels.recipe_uuid"], columns = ["label"], order = ["-label"] }, { name = "twins", path = ['cuisine -> recipes.a "pinch"'], columns = ["title"] }]
"""


@pytest.fixture
def larder(tmp_path):
    profile = tmp_path / "larder.toml"
    profile.write_text(LARDER, encoding="utf-8")
    with open_app(flashpoint_web.larder_db(tmp_path / "larder.db"), profile, "pantry") as app:
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
def test_custom_profile_defines_searches(larder, words, filters, numbers):
    page = search.find(larder, "recipes", SearchRequest(words=words, filters=filters), PageRequest())
    assert [int(str(row["recipe_uuid"])[-1]) for row in page.items] == numbers
    assert all(set(row) == {"recipe_uuid", "title", 'a "pinch"'} for row in page.items)


def test_word_search_reads_keys_as_words(larder):
    page = search.find(larder, "recipes", SearchRequest(query='-"Rye" cook=ana'), PageRequest())
    assert page.items == []
    assert search.count(larder, "recipes", SearchRequest(query="-rye")).count.total == 3


def test_details_follow_the_profile(larder):
    assert read_detail(larder, "recipes", "b2c8d1ef-0000-4000-8000-000000000001").extra["labels"] == [
        "vegan",
        "soup",
    ]


def test_reference_without_row_has_empty_detail(larder):
    assert read_detail(larder, "recipes", "b2c8d1ef-0000-4000-8000-000000000004").extra["twins"] == []


def test_built_in_searches_are_valid():
    for name in loader.names():
        for section in loader.load(name).search:
            assert list(validate_search(section)) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{ names = ["label", "x"] }', "columns, lists or path is missing"),
        ('{ names = ["x", "Label"], columns = ["title"] }', "is also a name of x"),
        ('{ names = ["x"], columns = ["title"], hidden = true }', "require kind boolean"),
        ('{ names = ["x"], columns = ["title"], bound = "from" }', "requires kind date or time"),
        ('{ names = ["x"], path = ["a -> b.c"] }', "path requires path_columns"),
        ('{ names = ["x"], columns = ["title"], path_columns = ["y"] }', "path_columns requires path"),
        ('{ names = ["x"], kind = "count", path = ["a -> b.c", "d -> e.f"] }', "one link"),
    ],
)
def test_contradictory_keys_are_reported(tmp_path, line, reason):
    path = tmp_path / "wrong.toml"
    path.write_text(LARDER.replace("key = [\n", f"key = [\n    {line},\n"), encoding="utf-8")
    messages = [text for _, text in validate_search(loader.load(str(path)).search[0])]
    assert any(reason in text for text in messages), messages
