"""The contract between services and engines: protocols and the values that they exchange."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
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
        Query,
        ReferenceCount,
        Where,
    )
    from dbctl.engines.contract.dumps import (
        Content,
        Dump,
        DumpRequest,
        DumpResult,
        DumpRowCounter,
        Dumps,
        DumpVerification,
        ImportedDump,
        LoadRequest,
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
    from dbctl.engines.contract.engine import Engine, OpenOptions, TempDirFactory, temp_dir
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
        RebuildScript,
        Script,
        ScriptDialect,
        ScriptRunner,
        StatementEffect,
        TableChange,
        TableRebuilder,
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
    from dbctl.engines.contract.reader import (
        Column,
        Explainer,
        Explanation,
        FillRow,
        PlannedRows,
        Preview,
        Readable,
        Reference,
        Table,
        fill_no_columns,
        require_part,
    )
    from dbctl.engines.contract.recovery import SalvagedTable, SalvageRequest, SalvageResult
    from dbctl.engines.contract.replication import Cluster, ReplicaMonitor, ReplicaState, require_replica
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
    from dbctl.engines.contract.streaming import BATCH_ROWS, CsvWriter, RowStream, RowStreams, UserQuery
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
        Merge,
        MergeRule,
        ShiftedTime,
        TimeForm,
        TimeFormCount,
        TimeForms,
        TimeRewriter,
        Writable,
    )
