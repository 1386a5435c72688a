"""The contract between services and engines: protocols and the values that they exchange."""

from typing import TYPE_CHECKING

from dbctl.exports import lazy_exports

if TYPE_CHECKING:
    from dbctl.engines.contract.checks import (
        Checks,
        Describes,
        Holder,
        Housing,
        IndexDamage,
        IndexDifference,
        Measured,
        Measures,
        Orphans,
        Storage,
    )
    from dbctl.engines.contract.conditions import (
        AllOf,
        AnyOf,
        Behind,
        Condition,
        Linked,
        Not,
        Op,
        Order,
        Where,
        Within,
    )
    from dbctl.engines.contract.dumps import (
        Approach,
        Dump,
        Dumped,
        Dumps,
        Kept,
        Loaded,
        Outside,
        Pins,
        Proof,
        Ready,
        Tried,
        count_dumped,
        list_dumped,
    )
    from dbctl.engines.contract.effects import Effect
    from dbctl.engines.contract.external_index import Sidecar, Sidecars, SidecarState
    from dbctl.engines.contract.fulltext import (
        FullText,
        Gathered,
        IndexFault,
        IndexState,
        IndexUse,
        Link,
        MakesFullText,
        Marked,
        TextIndex,
    )
    from dbctl.engines.contract.migrations import Hazard, Language, Migrates, Script
    from dbctl.engines.contract.monitoring import (
        Advises,
        Concern,
        Index,
        Indexes,
        Look,
        Maintains,
        Prunes,
        Session,
        Sessions,
        Slow,
        Task,
        Timed,
        Traffic,
        Tuning,
        Upkeep,
        Wait,
        Waste,
        Wastes,
        answered,
        left_behind,
        named_locks,
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
        fill_nothing,
    )
    from dbctl.engines.contract.recovery import Recovered, Recovery, TableRecovered
    from dbctl.engines.contract.schema import (
        Schema,
        SchemaCode,
        SchemaColumn,
        SchemaIndex,
        SchemaReference,
        SchemaTable,
        bare,
        by_table,
        fingerprint,
        plain,
    )
    from dbctl.engines.contract.streaming import BATCH, Answer, Streams, WritesCsv
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
    from dbctl.engines.contract.text_scan import BEFORE, BEHIND, Hit, LooksThrough
    from dbctl.engines.contract.vectors import (
        Kind,
        MakesVectors,
        Metric,
        Recall,
        Row,
        VectorColumn,
        VectorFault,
        VectorIndex,
        VectorIndexWanted,
        Vectors,
    )
    from dbctl.engines.contract.writer import (
        HeldTimes,
        HoldsTimeForms,
        Later,
        Merge,
        RewritesTimes,
        TimeForm,
        Writable,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "checks": "Checks Describes Holder Housing IndexDamage IndexDifference Measured Measures Orphans Storage",
            "conditions": "AllOf AnyOf Behind Condition Linked Not Op Order Where Within",
            "dumps": "Approach Dump Dumped Dumps Kept Loaded Outside Pins Proof Ready Tried count_dumped list_dumped",
            "effects": "Effect",
            "external_index": "Sidecar SidecarState Sidecars",
            "fulltext": "FullText Gathered IndexFault IndexState IndexUse Link MakesFullText Marked TextIndex",
            "migrations": "Hazard Language Migrates Script",
            "monitoring": (
                "Advises Concern Index Indexes Look Maintains Prunes Session Sessions Slow Task Timed Traffic Tuning "
                "Upkeep Wait Waste Wastes answered left_behind named_locks"
            ),
            "reader": "Capability Column Explains Explanation FillRow Readable Reference Table fill_nothing",
            "recovery": "Recovered Recovery TableRecovered",
            "schema": (
                "Schema SchemaCode SchemaColumn SchemaIndex SchemaReference SchemaTable bare by_table fingerprint "
                "plain"
            ),
            "streaming": "Answer BATCH Streams WritesCsv",
            "text_query": "TextAnd TextNot TextOr TextQuery TextTerm UNSPACED conjuncts join_queries positive_terms",
            "text_scan": "BEFORE BEHIND Hit LooksThrough",
            "vectors": "Kind MakesVectors Metric Recall Row VectorColumn VectorFault VectorIndex VectorIndexWanted Vectors",
            "writer": "HeldTimes HoldsTimeForms Later Merge RewritesTimes TimeForm Writable",
        },
    )
