"""The contract between services and engines: protocols and the values that they exchange."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import (
        Checks,
        DatabaseFiles,
        IndexDamage,
        IndexDifference,
        LockHolder,
        OrphanedRows,
        SchemaReader,
        SizeMonitor,
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
        Content,
        Dump,
        DumpResult,
        DumpRowCounter,
        Dumps,
        DumpVerification,
        ImportedDump,
        LoadResult,
        PreparedSwap,
        RestoreStrategy,
        RestoreTarget,
        RetainedDatabase,
        SnapshotPin,
        TrialRestore,
        count_dump_rows,
        list_dump_tables,
    )
    from dbctl.engines.contract.engine import Engine, TempDirFactory, require_driver, temp_dir
    from dbctl.engines.contract.external_index import ExternalIndexes, ExternalIndexSpec, ExternalIndexState
    from dbctl.engines.contract.fulltext import (
        CHARACTERS_AFTER,
        CHARACTERS_BEFORE,
        FullText,
        IndexFault,
        IndexMarker,
        IndexState,
        IndexUse,
        JoinedText,
        Link,
        TextIndexes,
        TextIndexSpec,
        TextMatch,
        TextScanner,
    )
    from dbctl.engines.contract.migrations import (
        LintFinding,
        Script,
        ScriptDialect,
        ScriptRunner,
        StatementEffect,
    )
    from dbctl.engines.contract.monitoring import (
        Advisor,
        Bloat,
        BloatMonitor,
        EngineFinding,
        FindingQuery,
        Index,
        IndexMonitor,
        LockWait,
        Maintenance,
        MaintenanceKind,
        MaintenanceTask,
        Session,
        SessionMonitor,
        SettingComparison,
        SlowQuery,
        SlowQueryMonitor,
        Traffic,
        Versions,
        group_locks,
        leftover_finding,
        row_findings,
    )
    from dbctl.engines.contract.parts import PartOwner, require_part
    from dbctl.engines.contract.reader import (
        Column,
        Explainer,
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
    from dbctl.engines.contract.streaming import BATCH_ROWS, CsvWriter, RowStream, RowStreams
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
    from dbctl.engines.contract.vectors import (
        Metric,
        Recall,
        Row,
        VectorColumn,
        VectorFault,
        VectorIndex,
        VectorIndexes,
        VectorIndexKind,
        VectorIndexSpec,
        VectorSearch,
    )
    from dbctl.engines.contract.writer import (
        MergeRule,
        ShiftedTime,
        TimeForm,
        TimeFormCount,
        TimeForms,
        TimeRewriter,
        Writable,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": (
                "Checks DatabaseFiles IndexDamage IndexDifference LockHolder OrphanedRows SchemaReader SizeMonitor "
                "Storage TableSize"
            ),
            "conditions": "AllOf AnyOf Condition InSubquery KeysetCursor Not Op Order ReferenceCount Where",
            "dumps": (
                "Content Dump DumpResult DumpRowCounter DumpVerification Dumps ImportedDump LoadResult PreparedSwap "
                "RestoreStrategy RestoreTarget RetainedDatabase SnapshotPin TrialRestore count_dump_rows "
                "list_dump_tables"
            ),
            "engine": "Engine TempDirFactory require_driver temp_dir",
            "external_index": "ExternalIndexSpec ExternalIndexState ExternalIndexes",
            "fulltext": (
                "CHARACTERS_AFTER CHARACTERS_BEFORE FullText IndexFault IndexMarker IndexState IndexUse JoinedText "
                "Link TextIndexSpec TextIndexes TextMatch TextScanner"
            ),
            "migrations": "LintFinding Script ScriptDialect ScriptRunner StatementEffect",
            "monitoring": (
                "Advisor Bloat BloatMonitor EngineFinding FindingQuery Index IndexMonitor LockWait Maintenance "
                "MaintenanceKind MaintenanceTask Session SessionMonitor SettingComparison SlowQuery SlowQueryMonitor "
                "Traffic Versions group_locks leftover_finding row_findings"
            ),
            "parts": "PartOwner require_part",
            "reader": "Column Explainer Explanation FillRow Readable Reference Table fill_no_columns",
            "recovery": "SalvageRequest SalvageResult SalvagedTable",
            "schema": (
                "Schema SchemaCode SchemaColumn SchemaIndex SchemaReference SchemaTable collapse_spaces fingerprint "
                "group_by_table strip_collation"
            ),
            "streaming": "BATCH_ROWS CsvWriter RowStream RowStreams",
            "text_query": "TextAnd TextNot TextOr TextQuery TextTerm UNSPACED conjuncts join_queries positive_terms",
            "vectors": (
                "Metric Recall Row VectorColumn VectorFault VectorIndex VectorIndexKind VectorIndexSpec VectorIndexes "
                "VectorSearch"
            ),
            "writer": "MergeRule ShiftedTime TimeForm TimeFormCount TimeForms TimeRewriter Writable",
        },
    )
