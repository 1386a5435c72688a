"""Derive the statements that create a schema of any engine in a database of another engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import ClassVar

from dbctl.engines.contract.schema import SchemaReference
from dbctl.engines.sql.catalog import ident, quote_literal
from dbctl.extensions.transfer.portable.canonical import normalize_timestamp
from dbctl.extensions.transfer.portable.contract import (
    ColumnPair,
    DerivedSchema,
    IndexTerm,
    LogicalKind,
    LogicalType,
    Omission,
    PortableColumn,
    PortableIndex,
    PortableSchema,
    PortableTable,
)
from dbctl.extensions.transfer.portable.expressions import (
    Expressions,
    PortableDefault,
    UntranslatableError,
    ViewQueries,
    fits_kind,
    read_default,
)
from dbctl.extensions.transfer.portable.read import IndexNames, find_distinguished


class Derivation(ABC):
    """Derives one schema. A class of each engine writes its types and constraints."""

    dialect: ClassVar[str]  #: the name of the engine's SQL in sqlglot
    max_name_size: ClassVar[int] = 63
    #: constraints are part of CREATE TABLE, because they cannot be added later
    has_inline_constraints: ClassVar[bool] = False
    #: names of indexes are unique in a schema, not only in a table
    has_global_index_names: ClassVar[bool] = True
    #: names that differ only in case are the same name
    ignores_case_of_tables: ClassVar[bool] = False
    ignores_case_of_columns: ClassVar[bool] = False
    #: collations that ignore case also ignore accents
    ignores_accents: ClassVar[bool] = False
    #: the meaning of a backslash in a text does not depend on the session
    allows_backslashes: ClassVar[bool] = True
    #: the current time for a column that would read a local time in the zone of the session; empty: none does
    zoned_now: ClassVar[str] = ""
    #: expressions for the current time and day, and for a random UUID, by the kind of the column
    functions: Mapping[str, Mapping[LogicalKind, str]]

    def __init__(self, schema: PortableSchema) -> None:
        self._schema = schema
        self._omissions = list(schema.omissions)
        self._types: dict[str, dict[str, LogicalType]] = {}
        self.names = IndexNames(
            [table.name for table in schema.tables],
            max_size=self.max_name_size,
            size_of=self.name_size,
            ignores_case=self.ignores_case_of_tables,
        )

    # Parts of an engine ------------------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        return ident(name)

    @abstractmethod
    def column_type(self, table: PortableTable, column: PortableColumn) -> tuple[str, LogicalType]:
        """Return the declared type of a column, and its logical type."""

    @abstractmethod
    def automatic_clause(self, table: PortableTable, column: PortableColumn) -> str:
        """Return what follows the type of a column for which the engine numbers new rows."""

    def bytes_literal(self, digits: str) -> str:
        """Return SQL for bytes in hexadecimal."""
        return f"x'{digits}'"

    @abstractmethod
    def create_index(self, table: PortableTable, index: PortableIndex) -> Iterator[str]:
        """Yield the statements of an index."""

    def default_clause(self, expression: str, kind: LogicalKind, *, is_literal: bool) -> str:
        del kind
        return f"default {expression}" if is_literal else f"default ({expression})"

    def collation_clause(self, table: PortableTable, column: PortableColumn, logical: LogicalType) -> str:
        """Return the collation of a column, if it is not the default one."""
        del table, column, logical
        return ""

    def generated_clause(self, expression: str, *, is_stored: bool) -> str:
        return f"generated always as ({expression}) {'stored' if is_stored else 'virtual'}"

    def type_checks(self, column: PortableColumn) -> Iterator[str]:
        """Yield conditions of the values of a column that its type does not check."""
        if column.type.kind == "enum":
            labels = ", ".join(map(quote_literal, column.type.labels))
            yield f"{self.quote(column.name)} in ({labels})"

    def table_options(self, table: PortableTable) -> str:  # noqa: ARG002 - used by overrides
        return ""

    def can_comment(self, comment: str, *, is_column: bool) -> bool:
        del comment, is_column
        return True

    def comment_clause(self, column: PortableColumn) -> str:  # noqa: ARG002 - used by overrides
        """Return the comment at the end of the definition of a column."""
        return ""

    def create_comments(self, table: PortableTable) -> Iterator[str]:  # noqa: ARG002 - used by overrides
        """Yield the statements of comments that are not part of CREATE TABLE."""
        yield from ()

    def extra_definitions(self, table: PortableTable) -> Iterator[str]:  # noqa: ARG002 - used by overrides
        """Yield further definitions of CREATE TABLE."""
        yield from ()

    # Flow --------------------------------------------------------------------------------------------------------

    def derive(self) -> DerivedSchema:
        """Return the statements and what they omit."""
        self._check_names()
        pairs = list[ColumnPair]()
        for table in self._schema.tables:
            self._types[table.name] = {
                column.name: self.column_type(table, column)[1] for column in table.columns
            }
        before = [self._create_table(table, pairs) for table in self._schema.tables]
        for table in self._schema.tables:
            before += self.create_comments(table)
        early, after = self._create_indexes()
        if not self.has_inline_constraints:
            for write in (self._check_clauses, self._reference_clauses):
                for table in self._schema.tables:
                    beginning = f"alter table {self.quote(table.name)} add "
                    after += self._join_alterations(table, (beginning + clause for clause in write(table)))
        views = ViewQueries(self._schema.dialect, self.dialect, self._types)
        after += views.create(self._schema.views, self.quote, self.omit)
        return DerivedSchema(before=[*before, *early], after=after, columns=pairs, omissions=self._omissions)

    def _create_indexes(self) -> tuple[list[str], list[str]]:
        """Return the statements of indexes that foreign keys require before rows are copied, and of other indexes."""
        early, late = list[str](), list[str]()
        for table in self._schema.tables:
            statements = list[str]()
            for index in table.indexes:
                is_early = self.has_inline_constraints and self._schema.is_referenced(table, index)
                (early if is_early else statements).extend(self.create_index(table, index))
            late += self._join_alterations(table, statements)
        return early, late

    def _join_alterations(self, table: PortableTable, statements: Iterable[str]) -> Iterator[str]:
        """Yield statements; those that alter the table are joined, because each one may read it completely."""
        beginning, clauses = f"alter table {self.quote(table.name)} ", list[str]()
        for statement in statements:
            if statement.startswith(beginning):
                clauses.append(statement.removeprefix(beginning))
            else:
                yield statement
        if clauses:
            yield beginning + ", ".join(clauses)

    def omit(self, kind: str, name: str, reason: str, table: str = "", *, is_blocking: bool = False) -> None:
        """Record that the derived schema lacks something."""
        omission = Omission(kind=kind, name=name, reason=reason, table=table, is_blocking=is_blocking)
        if omission not in self._omissions:
            self._omissions.append(omission)

    def _check_names(self) -> None:
        """Record names of tables and columns that the engine cannot have, or does not distinguish."""
        names = [("table", "", [table.name for table in self._schema.tables], self.ignores_case_of_tables)]
        names += [
            ("column", table.name, [column.name for column in table.columns], self.ignores_case_of_columns)
            for table in self._schema.tables
        ]
        for kind, table_name, group, ignores_case in names:
            known = dict[str, str]()
            for name in group:
                other = known.setdefault(name.lower() if ignores_case else name, name)
                if other != name:
                    reason = f"this engine does not distinguish it from {other}"
                    self.omit(kind, name, reason, table_name, is_blocking=True)
                if self.name_size(name) > self.max_name_size:
                    reason = f"names of this engine have at most {self.max_name_size} characters"
                    self.omit(kind, name, reason, table_name, is_blocking=True)

    # Tables ------------------------------------------------------------------------------------------------------

    def _create_table(self, table: PortableTable, pairs: list[ColumnPair]) -> str:
        definitions = []
        for column in table.columns:
            declared, logical = self.column_type(table, column)
            definition, is_generated = self._define_column(table, column, declared, logical)
            definitions.append(definition)
            if not is_generated:
                pairs.append(
                    ColumnPair(
                        table=table.name,
                        column=column.name,
                        source=column.declared,
                        destination=declared,
                        source_type=column.type,
                        destination_type=logical,
                        is_nullable=column.is_nullable and column.name not in table.key,
                    )
                )
        if table.key and not self.has_inline_key(table):
            definitions.append(f"primary key ({self.key_list(table)})")
        if self.has_inline_constraints:
            definitions += [*self._check_clauses(table), *self._reference_clauses(table)]
        definitions += self.extra_definitions(table)
        self._omit_collations(table)
        self._omit_comments(table)
        return (
            f"create table {self.quote(table.name)} (\n  "
            + ",\n  ".join(definitions)
            + f"\n){self.table_options(table)}"
        )

    def _omit_collations(self, table: PortableTable) -> None:
        types = self._types[table.name]
        columns = [each for each in table.columns if self.collation_clause(table, each, types[each.name])]
        folded = [column.name for column in columns]
        for word, names in find_distinguished(table, folded, ignores_accents=self.ignores_accents).items():
            self.omit("collation", ", ".join(names), f"comparisons distinguish {word}", table.name)

    def _omit_comments(self, table: PortableTable) -> None:
        comments = [(table.name, table.comment, False)]
        comments += [(column.name, column.comment, True) for column in table.columns]
        names = [
            name
            for name, comment, is_column in comments
            if comment and not self.can_comment(comment, is_column=is_column)
        ]
        if names:
            self.omit("comment", ", ".join(names), "this engine cannot store it", table.name)

    def has_inline_key(self, table: PortableTable) -> bool:
        """Whether the definition of a column contains the primary key."""
        del table
        return False

    def key_list(self, table: PortableTable) -> str:
        return ", ".join(map(self.quote, table.key))

    def _define_column(
        self, table: PortableTable, column: PortableColumn, declared: str, logical: LogicalType
    ) -> tuple[str, bool]:
        """Return the definition of a column, and whether it is generated."""
        generated = self._generated(table, column)
        parts = [self.quote(column.name), declared, self.collation_clause(table, column, logical)]
        if generated:
            parts.append(generated)
        elif column.is_automatic:
            parts.append(self.automatic_clause(table, column))
        elif column.default:
            parts.append(self._default(table, column, logical))
        if not column.is_nullable or column.name in table.key:
            parts.append("not null")
        parts.append(self.comment_clause(column))
        return " ".join(filter(None, parts)), bool(generated)

    def _generated(self, table: PortableTable, column: PortableColumn) -> str:
        if not column.generated:
            return ""
        try:
            expression = self.expressions(table).translate(column.generated, is_stored=True)
        except UntranslatableError as error:
            reason = f"{error}; the computed values are copied"
            self.omit("generated column", column.name, reason, table.name)
            return ""
        return self.generated_clause(expression, is_stored=column.is_stored)

    def _default(self, table: PortableTable, column: PortableColumn, logical: LogicalType) -> str:
        default = read_default(column.default, self._schema.dialect, column.type.kind)
        if default is None:
            return ""
        expression = self._literal(default, logical.kind)
        if expression:
            return self.default_clause(expression, logical.kind, is_literal=True)
        expression = self.functions.get(default.kind, {}).get(logical.kind, "")
        if default.kind == "now" and logical.has_zone:
            expression = self.zoned_now or expression
        if expression:
            return self.default_clause(expression.format(logical.fraction), logical.kind, is_literal=False)
        reason = f"it is no value of type {logical.kind}"
        if default.kind == "expression":
            try:
                expression = self.expressions(table).translate(default.value)
                return self.default_clause(expression, logical.kind, is_literal=False)
            except UntranslatableError as error:
                reason = str(error)
        self.omit("default", f"{column.name}: {column.default}", reason, table.name)
        return ""

    def _literal(self, default: PortableDefault, kind: LogicalKind) -> str:
        """Return a literal for a column; empty if the default is none."""
        if default.kind not in ("text", "number", "bytes") or not fits_kind(default, kind):
            return ""
        if kind == "boolean":
            return self.boolean_literal(is_true=default.value.lower() in ("1", "true", "t"))
        if kind in ("integer", "decimal", "real"):
            return default.value
        if kind == "bytes":
            return self.bytes_literal(default.value)
        if kind == "timestamp":  # as the copied values, in UTC
            return self.text_literal(normalize_timestamp(default.value.encode()).decode())
        return self.text_literal(default.value)

    def text_literal(self, value: str) -> str:
        return quote_literal(value)

    def boolean_literal(self, *, is_true: bool) -> str:
        return "1" if is_true else "0"

    def expressions(self, table: PortableTable) -> Expressions:
        """Return the translator for expressions over the columns of a table."""
        return Expressions(
            self._schema.dialect,
            self.dialect,
            self._types[table.name],
            allows_backslashes=self.allows_backslashes,
        )

    # Constraints -------------------------------------------------------------------------------------------------

    def _check_clauses(self, table: PortableTable) -> Iterator[str]:
        for column in table.columns:
            yield from (f"check ({check})" for check in self.type_checks(column))
        for check in table.checks:
            try:
                yield f"check ({self.expressions(table).translate_condition(check)})"
            except UntranslatableError as error:
                self.omit("check", check, str(error), table.name)

    def _reference_clauses(self, table: PortableTable) -> Iterator[str]:
        """Yield the foreign keys that refer to unique columns of the same types."""
        for reference in table.references:
            if reason := self._find_mismatch(table, reference):
                self.omit("foreign key", ", ".join(reference.columns), reason, table.name)
            else:
                yield self.reference_clause(table, reference)

    def _find_mismatch(self, table: PortableTable, reference: SchemaReference) -> str:
        parent = next((each for each in self._schema.tables if each.name == reference.table), None)
        if parent is None:
            return f"table {reference.table} does not exist"
        if not parent.has_unique_columns(reference.to):
            return f"({', '.join(reference.to)}) of {parent.name} is not unique"
        for name, to in zip(reference.columns, reference.to, strict=True):
            if not self.can_refer(table.column(name), parent.column(to)):
                return f"{name} and {parent.name}.{to} have different types or collations"
        return ""

    def can_refer(self, source: PortableColumn, target: PortableColumn) -> bool:
        """Whether a foreign key can connect two columns."""
        return source.type.kind == target.type.kind

    def reference_clause(self, table: PortableTable, reference: SchemaReference) -> str:
        """Return the clause of a foreign key of a table."""
        del table
        columns, to = (", ".join(map(self.quote, names)) for names in (reference.columns, reference.to))
        clause = f"foreign key ({columns}) references {self.quote(reference.table)} ({to})"
        for event, action in (("update", reference.on_update), ("delete", reference.on_delete)):
            if action != "NO ACTION":
                clause += f" on {event} {action.lower()}"
        return clause + (" deferrable initially deferred" if reference.deferred else "")

    # Indexes -----------------------------------------------------------------------------------------------------

    def write_terms(
        self, table: PortableTable, index: PortableIndex, write: Callable[[IndexTerm, str], str]
    ) -> str:
        """Return the list of the terms of an index.

        Raises:
            UntranslatableError: an expression has no equivalent.
        """
        written = []
        for term in index.terms:
            expression = (
                self.quote(term.column)
                if term.column
                else f"({self.expressions(table).translate(term.expression)})"
            )
            written.append(write(term, expression) + (" desc" if term.is_descending else ""))
        return ", ".join(written)

    def where_clause(self, table: PortableTable, index: PortableIndex) -> str:
        """Return the condition of a partial index; raises as ``write_terms``."""
        return f" where {self.expressions(table).translate_condition(index.where)}" if index.where else ""

    def build_index(
        self,
        table: PortableTable,
        index: PortableIndex,
        write: Callable[[IndexTerm, str], str],
        suffix: str = "",
    ) -> Iterator[str]:
        """Yield the statement of an index, with terms as ``write`` returns them; an index without an equivalent is an omission."""
        try:
            terms, where = self.write_terms(table, index, write), self.where_clause(table, index)
        except UntranslatableError as error:
            self.omit("index", index.name, str(error), table.name)
            return
        unique, name = "unique " if index.is_unique else "", self.index_name(table, index, suffix)
        yield f"create {unique}index {name} on {self.quote(table.name)} ({terms}){where}"

    def index_name(self, table: PortableTable, index: PortableIndex, suffix: str = "") -> str:
        """Return a quoted name that no other index has."""
        base = index.name or "_".join(
            [table.name, *(term.column for term in index.terms if term.column), "key"]
        )
        is_global = self.has_global_index_names
        return self.quote(self.names.create(table.name, base + suffix, is_global=is_global))

    def name_size(self, name: str) -> int:
        """Return the length of a name in the unit of ``max_name_size``."""
        return len(name.encode())
