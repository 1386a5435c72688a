"""What a new API token writes: the columns with its secret, and in which form, and the column with its user."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator, Mapping

from dbctl.extensions.drafts.document import Value, join_names
from dbctl.extensions.drafts.learning.explain import Explainer
from dbctl.extensions.drafts.learning.faults import TRACE
from dbctl.extensions.drafts.learning.rules.password_hashes import is_password_hash
from dbctl.extensions.drafts.learning.rules.user_rows import SignInRule
from dbctl.extensions.drafts.learning.scene import ChangedRow, LearnedKey, Lesson, Scene
from dbctl.model import Row, Secret
from dbctl.profiles.codecs import read_text
from dbctl.profiles.passwords import identify_format
from dbctl.profiles.payloads import has_row_path
from dbctl.services.app.evidence import references, subjects
from dbctl.services.app.evidence.gather import TableEvidence
from dbctl.services.app.live_table import find_column
from dbctl.services.app.secrets import KEY_FORMS

#: Characters of the shortest secret.
_SHORTEST = 16
#: Columns with random texts that identify a row, and give no access.
_IDENTIFIER = re.compile(r"(^|_)(id|ids|uuid|guid|jti)$")
#: Explanations of values that may be secrets.
_OPEN_KINDS = ("random", "password", "unexplained")


class TokenRule(SignInRule):
    """The rows that a new token added or changed."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._explainer = Explainer(scene, self.user)
        #: by ``table.column``, whether the profile names it elsewhere
        self._secrets = dict[str, bool]()
        self._counts = dict[str, Value]()  #: paths of tokens by the name of their number
        self._tables = list[str]()  #: with tokens

    def learn(self) -> Lesson:
        """Return the keys about the secrets of API tokens, and about their number for each user.

        The demonstration does not show what ends a token: that stays open, unless the profile takes its table for sign-ins.

        Raises:
            DemonstrationWrongError: no token was added, or only those of other users.
        """
        scene = self.scene
        for row in sorted(self.list_others(), key=lambda row: row.after is None):
            self._explain(row)
        self._explain_user()
        if not self._secrets:
            others = f"the tokens in {join_names(list(self.others))} are those of other users"
            reason = others if self.others else "no row was added, or changed, that has a token"
            raise scene.create_error(reason, f"Create an API token of {scene.subject.login}.")
        if any(UNKNOWN in note for note in self.notes):
            self.notes.append("the token on --password-stdin would show in which form the app stores it")
        return self.create([*self._create_keys()], self._tables)

    def _create_keys(self) -> Iterator[LearnedKey]:
        scene, database = self.scene, self.scene.users_database
        earlier = [*scene.profile.databases[database].secret]
        own = [place for place, is_known in self._secrets.items() if not is_known]
        known = {place.replace("?", "") for place in earlier}
        if own:
            entries = [*earlier, *(place for place in own if place not in known)]
            shown = [place for place in entries if place.replace("?", "") in own]
            yield scene.create_key("databases", database, "secret", value=entries, shown=shown)
        if self._counts and not self.users.counts:
            yield scene.create_key("users", "counts", value=self._counts)
            return
        for name, counted in self._counts.items():
            yield scene.create_key("users", "counts", name, value=counted)

    # Rows of other tables ---------------------------------------------------------------------------------------------

    def _explain(self, row: ChangedRow) -> None:
        """Learn the table of a row with a token, or say what else the row is."""
        table = self.read_table(row)
        values = self.read_values(row, after=True)
        if self.explain_log(row):
            return
        if values is None:
            self._explain_deleted(row, table)
        elif not (secrets := self._find_secrets(row, table)):
            self._explain_rest(row, table)
        elif self.find_user(table, values) is None and self.has_other_user(table, values):
            self.others[table.name] = None
            self.unrelated[table.name] = "of other users"
        else:
            self._learn_row(row, table, values, secrets)

    def _explain_deleted(self, row: ChangedRow, table: TableEvidence) -> None:
        earlier = row.before or {}
        if table.name in self._tables and self.find_user(table, earlier):
            self.notes.append(f"the app replaces the earlier token of the user in {table.name}")
        else:
            self.leave_open("other", f"the app deletes rows of {table.name}")

    def _explain_rest(self, row: ChangedRow, table: TableEvidence) -> None:
        if row.before is None:
            self.leave_open("other", f"the app adds rows of {table.name}, which have no token")
            return
        for column in row.after or {}:
            self._explain_column(row, table, column)

    def _learn_row(
        self, row: ChangedRow, table: TableEvidence, values: Row, secrets: Mapping[str, str]
    ) -> None:
        name = table.name
        if name not in self._tables:
            self._tables.append(name)
        covering = [section for section in self.find_sections(name) if self.covers(section, row, after=True)]
        live = self.scene.after[row.database].tables()[name]
        tokens = [find_column(live, section.token) for section in covering]
        for column, form in secrets.items():
            self._secrets[f"{name}.{column}"] = column in tokens
            self.notes.append(f"{name}.{column} has {form}")
        source = self.find_user(table, values)
        if source is None:
            self.notes.append(f"no column of {name} has the key of the user: only the app ends these tokens")
            return
        if source.key == "user" and (path := self._write_path(table, values, str(source.value))):
            self._counts[references.normalize(name)] = path
        if covering:
            text = f"users.signed_in has {name}: a new password, a deactivation and sessions revoke end these tokens, too"
            self.notes.append(text)
        else:
            text = f"whether rows of {name} end with a new password or a deactivation: they are API tokens of users"
            self.leave_open("sign-ins", text)

    def _write_path(self, table: TableEvidence, values: Row, column: str) -> str:
        """Return the path of the tokens of a user in a table, which may have rows of other kinds; empty: there is none."""
        if not has_row_path(table.name, column):
            return ""
        kinds: Mapping[str, Value] = self.find_kind(table, values)
        for kind, value in kinds.items():
            return f"{table.name}[{kind}={value}].{column}"
        return f"{table.name}.{column}"

    def _find_secrets(self, row: ChangedRow, table: TableEvidence) -> Mapping[str, str]:
        """Return the columns of a row that have a secret of the token, with its form."""
        token, secrets, identifiers = self.scene.password, dict[str, str](), dict[str, str]()
        for column, value in (row.after or {}).items():
            stored = read_text(value) if isinstance(value, str | bytes) else ""
            if token and (form := find_form(token, stored)):
                secrets[column] = form
            elif token and has_beginning(token, stored):
                self.notes.append(f"{table.name}.{column} has the beginning of the token, which is shown")
            elif self._may_be_secret(row, table, column, stored):
                is_identifier = _IDENTIFIER.search(references.normalize(column))
                (identifiers if is_identifier else secrets)[column] = describe_form(stored)
        return secrets or identifiers

    def _may_be_secret(self, row: ChangedRow, table: TableEvidence, column: str, stored: str) -> bool:
        is_random = len(stored) >= _SHORTEST and stored.isascii() and not re.search(r"\s|://|^[\[{]", stored)
        is_mixed = any(map(str.isdigit, stored)) and any(map(str.isalpha, stored))
        if not (is_random and is_mixed) or TRACE.search(column):
            return False
        return self._explainer.explain(row, column).kind in _OPEN_KINDS and not subjects.is_time(
            table.columns[column], [stored]
        )

    # The row of the user, and other changes ---------------------------------------------------------------------------

    def _explain_user(self) -> None:
        """Learn a token in the row of the user, and explain the other columns of it."""
        own, table = self.own, self.table
        secrets = self._find_secrets(own, table)
        for column, form in secrets.items():
            self._secrets[f"{table.name}.{column}"] = False
            self.notes.append(f"{table.name}.{column} has {form}")
            if column not in self.users.on_sign_out:
                text = f"whether a new password or a deactivation changes {table.name}.{column}: if it does, add it to users.on_sign_out"
                self.leave_open("sign-ins", text)
        for column in own.after or {}:
            if column not in secrets:
                self._explain_column(own, table, column)

    def _explain_column(self, row: ChangedRow, table: TableEvidence, column: str) -> None:
        """Say why a changed column has nothing to do with the token, or leave it open."""
        before, after = ((values or {}).get(column) for values in (row.before, row.after))
        if not self.explain_trace(table, column, before, after):
            self.leave_open("other", f"the app changes {table.name}.{column} with a new token")


_DIGESTS = ("sha256", "sha512", "sha1", "sha384", "sha224", "md5")
#: What separates the parts of a token, such as its number and its secret.
_SEPARATOR = re.compile(r"[^0-9A-Za-z]+")
#: Characters of the shortest part that is compared, so that it is equal by no chance.
_SHORTEST_PART = 4
_HEX = re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)
#: What a stored text may be if the token is unknown.
UNKNOWN = "the token itself, or made of it"


def find_form(token: Secret, stored: str) -> str:
    """Return how a text was made of a token, as part of a sentence; empty: it was not."""
    text = token.reveal()
    if stored == text:
        return "the token itself, in clear text"
    if len(text) // 2 <= len(stored) and text.startswith(stored):
        return "the beginning of the token, in clear text"
    for part in _list_parts(text):
        whole = "the token" if part == text else "a part of the token"
        if stored == part:
            return f"{whole}, in clear text"
        if name := next((name for name in _list_digests(part) if stored in _list_digests(part)[name]), ""):
            return f"the {name} digest of {whole}"
        if is_password_hash(Secret(part), stored):
            return f"a hash of {whole} in the format {identify_format(stored)}"
    return ""


def has_beginning(token: Secret, stored: str) -> bool:
    """Return whether a text is the beginning of a token, or of its last part: it is shown to users, and is no secret."""
    is_short = _SHORTEST_PART <= len(stored) < len(token.reveal()) // 2
    return is_short and any(part.startswith(stored) for part in _list_parts(token.reveal()))


def describe_form(stored: str) -> str:
    """Return what the form of a text shows without the token, as part of a sentence."""
    if form := identify_format(stored):
        return f"a hash in the format {form}"
    if name := next((name for name, pattern in KEY_FORMS.items() if re.fullmatch(pattern, stored)), ""):
        return f"a {name}, in clear text"
    digits = "hex digits" if _HEX.fullmatch(stored) else "characters"
    return f"{len(stored)} {digits}: {UNKNOWN}"


def _list_parts(text: str) -> Iterator[str]:
    """Yield a token, and what follows each separator in it."""
    yield text
    yield from (
        part for match in _SEPARATOR.finditer(text) if len(part := text[match.end() :]) >= _SHORTEST_PART
    )


def _list_digests(text: str) -> dict[str, tuple[str, ...]]:
    """Return the digests of a text by algorithm, in hex and in Base64."""
    digests = {name: hashlib.new(name, text.encode(), usedforsecurity=False).digest() for name in _DIGESTS}
    return {
        name.upper().replace("SHA", "SHA-"): (
            raw.hex(),
            raw.hex().upper(),
            *(form for encode in (b64encode, urlsafe_b64encode) for form in _strip(encode(raw).decode())),
        )
        for name, raw in digests.items()
    }


def _strip(encoded: str) -> tuple[str, str]:
    return encoded, encoded.rstrip("=")
