"""The full-text index of a search: its definition, and queries of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from msgspec import structs

from dbctl.engines.contract.database import Readable, Table
from dbctl.engines.contract.fulltext import IndexMarker, JoinedText, TextIndexSpec, TextQuery
from dbctl.errors.base import DbctlError, Remedy
from dbctl.errors.connection import QueryFailedError
from dbctl.model import Struct
from dbctl.profiles.model.search import Search, TextVariant
from dbctl.services.search.compiler import list_missing, parse_path

#: Note about a broken index that still finds every row.
USABLE_ONLY = Remedy(
    "the index {name} still finds rows, but is broken ({reason}); repair it with: `search index repair {search}`"
)
#: Note about a search without its index.
NOT_USED = "the index {name} {problem}: every row was read, without ranking"
BUILD = Remedy("create it with: `search index build {search}`")
REPAIR = Remedy("create it with: `search index repair {search}`")

BLOCKED_HINT = Remedy(
    "The search index blocks writes, because it is broken; repair it with: `search index repair {search}`"
)


class IndexQuery(Struct, frozen=True):
    """A query of a full-text index."""

    index: TextIndexSpec
    query: TextQuery
    finds_rows: bool  #: whether the index finds the rows, so that no other condition on the text is needed


def define_index(search: Search, db: Readable) -> TextIndexSpec | None:
    """Return the definition of a search's index in a database, or None if it cannot have one."""
    section = search.text
    if section is None or db.fulltext is None:
        return None
    tables = db.tables()
    required = [*section.columns, *section.unindexed]
    if search.table not in tables or any(list_missing(tables, search.table, required, [])):
        return None
    paths = {name: parse_path(joined.path) for name, joined in section.gather.items()}
    existing_paths = {
        name: path
        for name, path in paths.items()
        if not any(list_missing(tables, search.table, [], path, [section.gather[name].column]))
    }
    return TextIndexSpec(
        table=search.table,
        id=search.id,
        columns=section.columns,
        index_name=section.index,
        index_table=section.table,
        key=section.key,
        joined_texts=[
            JoinedText(name=name, path=path, column=section.gather[name].column)
            for name, path in existing_paths.items()
        ],
        extra_columns=section.unindexed,
        column_order=[name for name in section.order if name not in section.gather or name in existing_paths],
        tokenizer=section.tokenize,
        block_columns=section.blocks,
        trigger_pattern=next(
            (variant.triggers for variant in section.variant if _has_columns(variant, tables[search.table])),
            section.triggers,
        ),
        language=section.language,
        marker=IndexMarker(**structs.asdict(section.mark)) if section.mark else None,
    )


def prepare_index_query(search: Search, db: Readable, query: TextQuery) -> IndexQuery | None:
    """Return the query of a search's index, or None without a usable index."""
    index, fulltext = define_index(search, db), db.fulltext
    if index is None or fulltext is None:
        return None
    state = fulltext.text_index_state(index)
    if not (state.state == "valid" or state.usable):
        return None
    use = fulltext.text_index_use(index, query)
    return None if use == "none" else IndexQuery(index, query, use == "find")


def describe_index_problem(search: Search, db: Readable) -> str:
    """Return why the index of a search is not used or broken; empty for a valid index."""
    index, fulltext = define_index(search, db), db.fulltext
    if index is None or fulltext is None:
        return ""
    state = fulltext.text_index_state(index)
    if state.state == "valid":
        return ""
    if state.usable:
        return USABLE_ONLY.write(facts={"name": state.name, "reason": state.reason, "search": search.name})
    missing = state.state == "missing"
    problem = "is missing" if missing else f"is not usable ({state.reason})"
    text = NOT_USED.format(name=state.name, problem=problem)
    remedy = (BUILD if missing else REPAIR).write(facts={"search": search.name})
    return text if state.is_foreign else f"{text}; {remedy}"


def _has_columns(variant: TextVariant, table: Table) -> bool:
    return all(column in table.columns for column in variant.needs)


@contextmanager
def add_repair_hint(searches: Sequence[Search], table: str, db: Readable) -> Iterator[None]:
    """Add the repair command to the error of a write that fails because the table's search index is broken.

    Raises:
        QueryFailedError: the error of the block; with the hint if the index of the table is broken.
    """
    try:
        yield
    except QueryFailedError as error:
        for search in searches:
            if search.table == table and _is_broken(search, db):
                target, reason = (error.context[name] for name in ("target", "reason"))
                raise QueryFailedError(
                    hint=BLOCKED_HINT, search=search.name, target=target, reason=reason
                ) from error
        raise


def _is_broken(search: Search, db: Readable) -> bool:
    index, fulltext = define_index(search, db), db.fulltext
    try:
        return (
            index is not None and fulltext is not None and fulltext.text_index_state(index).state == "broken"
        )
    except DbctlError:  # after an error, a server executes nothing until the transaction ends
        return False
