"""The launcher's database of Flashpoint Web: generated games with data and tags, and playlists."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache
from random import Random

from dbctl.extensions.demo.random import WORDS, choose_subject, choose_weighted, happens, uuid4, zipf_rank
from dbctl.extensions.demo.sample import RowWriter, Sample

PLAY_MODES = {"Single Player": 90, "Multiplayer": 7, "Cooperative; Multiplayer": 3}
STATES = {"Playable": 88, "Partial": 7, "Hacked": 3, "Playable; Partial": 2}


def game_name(sample: Sample, number: int) -> tuple[str, str]:
    """Return id and title of the game with this number, from 0, without generating its other values."""
    rng = sample.rng_for("game", number)
    return uuid4(rng), _title(sample, rng)


def fill_archive(sample: Sample, rows: RowWriter) -> None:
    """Create the games with their platforms, tags and playlists."""
    words, modified = sample.words, sample.ago(30)
    for name, (_, suffix) in words["platforms"].items():
        rows.add("platform", name=name, description=f"Runs {suffix} files.", dateModified=modified)
    for name, category in words["tags"]:
        rows.add("tag", name=name, category=category, description="", dateModified=modified)
    tag_ids = {name: number for number, (name, _) in enumerate(words["tags"], 1)}
    for number in range(sample.counts["games"]):
        _game(sample, rows, number, tag_ids)
    for number in range(min(24, sample.counts["games"])):
        _playlist(sample, rows, number)


def _title(sample: Sample, rng: Random) -> str:
    a, b = rng.choice(WORDS["adjectives"]), rng.choice(WORDS["adjectives"])
    n, m = rng.choice(WORDS["nouns"]), rng.choice(WORDS["nouns"])
    title: str = rng.choice(sample.words["titles"])
    return title.format(a=a, b=b, n=n, m=m, number=rng.randint(2, 5))


@cache
def _studio(sample: Sample, rank: int) -> str:
    rng = sample.rng_for("studio", rank)
    return f"{rng.choice((*WORDS['nouns'], *map(str.title, WORDS['surnames'])))} {rng.choice(sample.words['studios'])}"


def _game(sample: Sample, rows: RowWriter, number: int, tag_ids: dict[str, int]) -> None:
    rng, platforms = sample.rng_for("game", number), sample.words["platforms"]
    key, title = uuid4(rng), _title(sample, rng)  # in this order, as in game_name
    platform = choose_weighted(rng, {name: share for name, (share, _) in platforms.items()})
    studio = _studio(sample, zipf_rank(rng, 900))
    site = studio.lower().replace(" ", "-")
    is_extreme = happens(rng, 0.03)
    extreme_tags = sample.words["extreme_tags"]
    common_tags = [name for name in tag_ids if name not in extreme_tags]
    tag_indexes = {zipf_rank(rng, len(common_tags)) for _ in range(rng.randint(1, 6))}
    tags = [common_tags[index] for index in sorted(tag_indexes)]
    tags += [rng.choice(extreme_tags)] if is_extreme else []
    added = sample.ago(rng.uniform(1, 2600))
    file_name = title.lower().replace(" ", "-").replace(":", "")
    command = f"http://www.{site}.example/{number}/{file_name}.{platforms[platform][1]}"
    is_animation = happens(rng, 0.12)
    parent = game_name(sample, rng.randrange(number))[0] if number and happens(rng, 0.015) else None
    is_broken = happens(rng, 0.01)
    program = "Flash" if platform == "Flash" else platform.replace(" ", "")
    rows.add(
        "game",
        id=key,
        parentGameId=parent,
        title=title,
        alternateTitles=_title(sample, rng) if happens(rng, 0.06) else "",
        series=choose_subject(rng) if happens(rng, 0.15) else "",
        developer=studio if happens(rng, 0.93) else "",
        publisher=_studio(sample, zipf_rank(rng, 300)) if happens(rng, 0.6) else "",
        platformName=platform,
        platformsStr=platform if happens(rng, 0.98) else f"{platform}; HTML5",
        platformId=list(platforms).index(platform) + 1,
        playMode="" if is_animation else choose_weighted(rng, PLAY_MODES),
        status="Broken" if is_broken else choose_weighted(rng, STATES),
        broken=is_broken,
        extreme=is_extreme,
        notes="" if happens(rng, 0.9) else "The sound starts only after the first click.",
        tagsStr="; ".join(tags),
        source=f"https://www.{site}.example/",
        applicationPath=f"FPSoftware\\start{program}.bat",
        launchCommand=command,
        releaseDate=_release_date(rng),
        version=rng.choice(("", "", "", "1.0", "1.1", "2.0.3")),
        originalDescription=f"{title} by {studio}: find the {rng.choice(WORDS['nouns']).lower()}"
        f" before the {rng.choice(WORDS['nouns']).lower()} does.",
        language=choose_weighted(rng, sample.words["languages"]),
        library="theatre" if is_animation else "arcade",
        orderTitle="" if happens(rng, 0.05) else title.lower().removeprefix("the "),
        dateAdded=added,
        dateModified=added + (sample.at - added) * rng.random() ** 2,
        archiveState=choose_weighted(rng, {0: 2, 1: 8, 2: 90}),
        logoPath=f"Logos/{key[:2]}/{key[2:4]}/{key}.png",
        screenshotPath=f"Screenshots/{key[:2]}/{key[2:4]}/{key}.png",
    )
    for index in range(1 + happens(rng, 0.1)):
        _game_data(rows, rng, key, command, added, index)
    for tag in tags:
        rows.add("game_tags_tag", gameId=key, tagId=tag_ids[tag])


def _release_date(rng: Random) -> str:
    year, month, day = 1996 + int(26 * rng.betavariate(3, 3)), rng.randint(1, 12), rng.randint(1, 28)
    # Some dates consist only of year and month, or only of the year, or are empty.
    dates = {f"{year}-{month:02d}-{day:02d}": 80, f"{year}-{month:02d}": 6, f"{year}": 8, "": 6}
    return choose_weighted(rng, dates)


def _game_data(rows: RowWriter, rng: Random, key: str, command: str, added: datetime, index: int) -> None:
    present = choose_weighted(rng, {None: 6, 0: 64, 1: 30})
    stored = added + timedelta(minutes=index)
    rows.add(
        "game_data",
        gameId=key,
        title=f"Data {index + 1}" if index else "Data",
        dateAdded=stored,
        sha256=f"{rng.getrandbits(256):064x}",
        crc32=f"{rng.getrandbits(32):08x}",
        presentOnDisk=present,
        path=None if present is None else f"Games/{key}-{int(stored.timestamp())}000.zip",
        size=int(20_000 * 1.0005 ** rng.randrange(16_000)),
        parameters=None if happens(rng, 0.95) else "-fullscreen",
        launchCommand=command if happens(rng, 0.9) else None,
    )


def _playlist(sample: Sample, rows: RowWriter, number: int) -> None:
    rng = sample.rng_for("playlist", number)
    playlist = uuid4(rng)
    rows.add(
        "playlist",
        id=playlist,
        title=f"{rng.choice(WORDS['adjectives'])} {rng.choice(sample.words['tags'])[0]} Games",
        description=rng.choice(
            ("", "What the curators come back to.", "In the order in which they appeared.")
        ),
        author=rng.choice(WORDS["names"]),
        library="theatre" if happens(rng, 0.12) else "arcade",
        icon=None,
        dateModified=sample.ago(rng.uniform(1, 900)),
    )
    rng = sample.rng_for("playlist games", number)
    members = {rng.randrange(sample.counts["games"]): None for _ in range(rng.randint(3, 40))}
    for order, member in enumerate(members, 1):
        notes = "" if happens(rng, 0.8) else "A favorite."
        game = game_name(sample, member)[0]
        rows.add("playlist_game", playlistId=playlist, gameId=game, order=order, notes=notes)
