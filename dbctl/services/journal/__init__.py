"""The journal of runs: which command ran when, on which app, and with which result."""

from dbctl.exports import lazy_imports

with lazy_imports(__name__):
    from dbctl.services.journal.history import (
        list_anchors,
        list_runs,
        read_history,
        read_newest_anchor,
        read_runs,
        show_run,
    )
    from dbctl.services.journal.location import JournalLocation, locate_journal
    from dbctl.services.journal.monitor import UNATTENDED, RunProblem, find_problems
    from dbctl.services.journal.prune import PruneRuns, RunsPruned
    from dbctl.services.journal.recorder import RunRecorder
    from dbctl.services.journal.records import (
        CommandHistory,
        HookRun,
        InstanceCounts,
        Origin,
        Run,
        RunDetails,
        RunError,
        RunFilter,
        RunOutcome,
        is_failed_job,
        is_failure,
        name_result,
    )
    from dbctl.services.journal.store import FILE_NAME, open_for_reading, open_for_writing
