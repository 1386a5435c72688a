"""What a live database shows about its app: schema, sampled rows, and what their names and values mean."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.app.evidence.facts import FACT_CHECKS, UNCOVERED, refuse_contradictions
    from dbctl.services.app.evidence.gather import (
        SAMPLE_ROWS,
        Evidence,
        TableEvidence,
        add_samples,
        gather_evidence,
        read_definitions,
    )
    from dbctl.services.app.evidence.subjects import (
        UNREADABLE,
        Check,
        Contradiction,
        DoesNotApplyError,
        Needs,
        Scope,
        Subject,
        check,
        create_unreadable,
        require,
    )
    from dbctl.services.app.evidence.user_references import (
        BlockingReference,
        UserReference,
        find_blocking_references,
        find_user_references,
        list_compared_columns,
    )
