"""The contract between services and engines: protocols and the values that they exchange."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import (
        Checks,
        DatabaseFiles,
        DescribesSchema,
        IndexDamage,
        IndexDifference,
        LockHolder,
        OrphanedRows,
        ReportsSizes,
        Storage,
        TableSize,
    )
    from dbctl.engines.contract.conditions import (
        AllOf,
        AnyOf,
        Condition,
        InSubquery,
        KeysetCursor,
        Not,
        Op,
        Order,
        ReferenceCount,
        Where,
    )
    from dbctl.engines.contract.dumps import (
        Dump,
        DumpResult,
        Dumps,
        DumpVerification,
        LoadResult,
        PreparedSwap,
        RestoreStrategy,
        RestoreTarget,
        RetainedDatabase,
        SupportsSnapshotPin,
        TrialRestore,
        count_dump_rows,
        list_dump_tables,
    )
    from dbctl.engines.contract.effects import StatementEffect
    from dbctl.engines.contract.external_index import (
        ExternalIndexSpec,
        ExternalIndexState,
        SearchesExternalIndex,
    )
    from dbctl.engines.contract.fulltext import (
        IndexFault,
        IndexMarker,
        IndexState,
        IndexUse,
        JoinedText,
        Link,
        ManagesTextIndexes,
        SearchesFullText,
        TextIndexSpec,
    )
    from dbctl.engines.contract.migrations import LintFinding, Migrates, Script, ScriptDialect
    from dbctl.engines.contract.monitoring import (
        Bloat,
        EngineFinding,
        FindingQuery,
        Index,
        LockWait,
        Maintains,
        MaintenanceKind,
        MaintenanceTask,
        PrunesVersions,
        ReportsBloat,
        ReportsFindings,
        ReportsIndexes,
        ReportsSessions,
        ReportsSlowQueries,
        Session,
        SettingComparison,
        SlowQuery,
        Traffic,
        group_locks,
        leftover_finding,
        row_findings,
    )
    from dbctl.engines.contract.reader import (
        Capability,
        Column,
        Explains,
        Explanation,
        FillRow,
        Readable,
        Reference,
        Table,
        fill_no_columns,
    )
    from dbctl.engines.contract.recovery import SalvagedTable, SalvageRequest, SalvageResult
    from dbctl.engines.contract.schema import (
        Schema,
        SchemaCode,
        SchemaColumn,
        SchemaIndex,
        SchemaReference,
        SchemaTable,
        collapse_spaces,
        fingerprint,
        group_by_table,
        strip_collation,
    )
    from dbctl.engines.contract.streaming import BATCH_ROWS, RowStream, StreamsRows, WritesCsv
    from dbctl.engines.contract.text_query import (
        UNSPACED,
        TextAnd,
        TextNot,
        TextOr,
        TextQuery,
        TextTerm,
        conjuncts,
        join_queries,
        positive_terms,
    )
    from dbctl.engines.contract.text_scan import CHARACTERS_AFTER, CHARACTERS_BEFORE, ScansText, TextMatch
    from dbctl.engines.contract.vectors import (
        ManagesVectorIndexes,
        Metric,
        Recall,
        Row,
        SearchesVectors,
        VectorColumn,
        VectorFault,
        VectorIndex,
        VectorIndexKind,
        VectorIndexSpec,
    )
    from dbctl.engines.contract.writer import (
        MergeRule,
        ReportsTimeForms,
        RewritesTimes,
        ShiftedTime,
        TimeForm,
        TimeFormCount,
        Writable,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": (
                "Checks DatabaseFiles DescribesSchema IndexDamage IndexDifference LockHolder OrphanedRows "
                "ReportsSizes Storage TableSize"
            ),
            "conditions": "AllOf AnyOf Condition InSubquery KeysetCursor Not Op Order ReferenceCount Where",
            "dumps": (
                "Dump DumpResult DumpVerification Dumps LoadResult PreparedSwap RestoreStrategy RestoreTarget "
                "RetainedDatabase SupportsSnapshotPin TrialRestore count_dump_rows list_dump_tables"
            ),
            "effects": "StatementEffect",
            "external_index": "ExternalIndexSpec ExternalIndexState SearchesExternalIndex",
            "fulltext": (
                "IndexFault IndexMarker IndexState IndexUse JoinedText Link ManagesTextIndexes SearchesFullText "
                "TextIndexSpec"
            ),
            "migrations": "LintFinding Migrates Script ScriptDialect",
            "monitoring": (
                "Bloat EngineFinding FindingQuery Index LockWait Maintains MaintenanceKind MaintenanceTask "
                "PrunesVersions ReportsBloat ReportsFindings ReportsIndexes ReportsSessions ReportsSlowQueries "
                "Session SettingComparison SlowQuery Traffic group_locks leftover_finding row_findings"
            ),
            "reader": "Capability Column Explains Explanation FillRow Readable Reference Table fill_no_columns",
            "recovery": "SalvageRequest SalvageResult SalvagedTable",
            "schema": (
                "Schema SchemaCode SchemaColumn SchemaIndex SchemaReference SchemaTable collapse_spaces fingerprint "
                "group_by_table strip_collation"
            ),
            "streaming": "BATCH_ROWS RowStream StreamsRows WritesCsv",
            "text_query": "TextAnd TextNot TextOr TextQuery TextTerm UNSPACED conjuncts join_queries positive_terms",
            "text_scan": "CHARACTERS_AFTER CHARACTERS_BEFORE ScansText TextMatch",
            "vectors": (
                "ManagesVectorIndexes Metric Recall Row SearchesVectors VectorColumn VectorFault VectorIndex "
                "VectorIndexKind VectorIndexSpec"
            ),
            "writer": "MergeRule ReportsTimeForms RewritesTimes ShiftedTime TimeForm TimeFormCount Writable",
        },
    )
