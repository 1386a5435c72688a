"""``dbctl copy``: copies of an app for staging and development."""

# No `from __future__ import annotations`: Typer would have to evaluate the strings at each start.
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from dbctl.cli._support.backups import (
    Identities,
    PassphraseFiles,
    Roles,
    load_keys,
    parse_roles,
    run_with_progress,
)
from dbctl.cli._support.emit import PasswordSource, read_password
from dbctl.cli._support.group import Group
from dbctl.cli._support.options import flag, option
from dbctl.cli._support.parameters import DryRun, RepositoryAddress
from dbctl.cli._support.session import Session
from dbctl.engines.contract.dumps import RolePolicy
from dbctl.errors.usage import UsageError
from dbctl.services.backup.encryption import DecryptionKeys
from dbctl.services.backup.repository import LATEST, Repository
from dbctl.services.restore.source import BackupSource
from dbctl.spec import Example, Write
from dbctl.url import Url

if TYPE_CHECKING:
    from dbctl.extensions.copies.operation import AnonymisedCopy
    from dbctl.extensions.copies.sampled import OriginalCopy
    from dbctl.services.app.app import App

GROUP = Group(
    "copy", section="Back up", position=3, help="Copy an app for staging, on request with pseudonyms."
)
LIVE = "live"


@Example("copy --to {db}=copy.db --dry-run", on="flashpoint-web custom")
@Example("copy --from live --to main=staging.db --anonymise --key copies.key")
@GROUP.command(
    answers=lambda: (AnonymisedCopy, OriginalCopy),
    writes=Write(source="generated", is_selected=False, needs="the destination"),
)
def copy(
    session: Session,
    to: Annotated[
        list[str],
        option(
            "--to",
            "[DATABASE=]URL|FILE|DIR/",
            "Where to create the copy of a database, repeatable; or a folder for the files of all.",
        ),
    ],
    source: Annotated[
        str, option("--from", "ID|latest|live", "The backup to copy, or live for the current state.")
    ] = LATEST,
    anonymise: Annotated[
        bool, flag("--anonymise", "Replace personal data by pseudonyms, and prove that none is left.")
    ] = False,
    key: Annotated[
        Path | None,
        option(
            "--key",
            "FILE",
            "Key of the pseudonyms, created if missing: copies with the same key have the same pseudonyms. Default: a key that is used once.",
        ),
    ] = None,
    keep: Annotated[
        list[str] | None, option("--keep", "TABLE.COLUMN", "Copy this column as it is; repeatable.")
    ] = None,
    keep_keys: Annotated[
        list[str] | None,
        option(
            "--keep-keys",
            "TABLE.COLUMN",
            "Copy the keys and numbers in documents of this column as they are; repeatable.",
        ),
    ] = None,
    empty: Annotated[
        list[str] | None, option("--empty", "TABLE", "Copy no row of this table; repeatable.")
    ] = None,
    samples: Annotated[
        list[str] | None,
        option(
            "--sample",
            "TABLE:RULE",
            "Copy only this share (users:5%) of the rows of a table, or those that meet a condition ('orders:created_at > -90d'), and no row that depends on the others; repeatable.",
        ),
    ] = None,
    password_stdin: Annotated[
        bool,
        flag(
            "--password-stdin",
            "Read the password of all users of the copy from standard input; default: generate one, and print it once.",
        ),
    ] = False,
    replace: Annotated[
        bool, flag("--replace", "Replace the existing content of a destination permanently.")
    ] = False,
    roles: Roles = None,
    identity: Identities = None,
    passphrase_file: PassphraseFiles = None,
    repository_address: RepositoryAddress = "",
    dry_run: DryRun = False,
) -> int:
    """Copy the databases of an app to other files or servers, from a backup.

    Without --anonymise, the copy has the original values, also with --sample. With --anonymise, personal data is replaced by pseudonyms before anything reaches the destination: equal values stay
    equal, also in other tables and databases, and all users get one new password. The section anonymise of the profile has
    the rule of each column; a column that can hold personal data and has none is refused. Then the originals are searched in
    the bytes of the result, and if one is found, nothing is copied.
    """
    from dbctl.extensions.copies.operation import AnonymiseCopy, CopyOptions
    from dbctl.extensions.copies.sample import parse_sample
    from dbctl.extensions.copies.sampled import CopyOriginals, CopySample

    if not anonymise and (keep or keep_keys or empty or password_stdin or (key and not samples)):
        raise UsageError(
            detail="--keep, --keep-keys, --empty and --password-stdin require --anonymise, and --key requires it or --sample"
        )
    with ExitStack() as stack:
        app = stack.enter_context(session.open_app())
        keys = load_keys(session, app, identity, passphrase_file)
        repository_source = stack.enter_context(
            _open_source(app, repository_address, source, keys, parse_roles(roles))
        )
        targets = _parse_targets(to, repository_source)
        parsed_samples = [parse_sample(text) for text in samples or ()]
        if not (anonymise or parsed_samples):
            operation = CopyOriginals(repository_source, targets, replace=replace)
            return run_with_progress(session, "copying", operation, dry_run=dry_run)
        if not anonymise:
            sample = CopySample(repository_source, targets, replace=replace, key=key, samples=parsed_samples)
            return run_with_progress(
                session, "copying", stack.enter_context(closing(sample)), dry_run=dry_run
            )
        options = CopyOptions(
            key=key,
            keep=keep or (),
            keep_keys=keep_keys or (),
            empty=empty or (),
            password=read_password(session, PasswordSource(stdin=True)) if password_stdin else None,
            replace=replace,
            samples=parsed_samples,
        )
        anonymised = stack.enter_context(closing(AnonymiseCopy(repository_source, targets, options)))
        return run_with_progress(session, "copying", anonymised, dry_run=dry_run)


@contextmanager
def _open_source(
    app: "App", repository_address: str, source: str, keys: DecryptionKeys, roles: RolePolicy
) -> Iterator[BackupSource]:
    """Yield the backup to copy; of the live databases, a backup in a private folder."""
    if source == LIVE:
        from dbctl.services.restore.source import open_live_source

        with open_live_source(app, keys, roles) as live:
            yield live
        return
    repository = Repository(app, repository_address)
    yield BackupSource(repository, repository.find(source), keys, roles)


def _parse_targets(to: Sequence[str], source: BackupSource) -> Mapping[str, Url]:
    """Return the address of each database."""
    from dbctl.config import loader

    folder = Path(to[0])
    if len(to) > 1 or "://" in to[0] or not (to[0].endswith("/") or folder.is_dir()):
        return loader.parse_urls(to, Path.cwd(), option="--to")
    urls = dict[str, Url]()
    for member in source.select_members(replaces_live=False):
        name = Path(source.app.url(member.database).path).name
        if not Url(engine=member.engine, path="").is_local:
            raise UsageError(
                detail=f"--to {to[0]}: {member.database} is on a server; write --to {member.database}=URL"
            )
        urls[member.database] = Url(engine=member.engine, path=str(folder.resolve() / name))
    return urls
