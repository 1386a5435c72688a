"""Failures of replicated databases: replicas, clusters, and commits in doubt."""

from __future__ import annotations

from dbctl.errors.base import DbctlError, Exit
from dbctl.errors.connection import ConcurrentChangeError, ReadOnlyError, UnreachableError


class CommitInDoubtError(UnreachableError):
    code, exit_status = "commit-in-doubt", Exit.FAILED
    sentence = "{target}: it is unknown whether a commit took effect: {reason}"
    remedy = "The change was made completely, or not at all: check which, before you run it again."


class NodeNotReadyError(UnreachableError):
    code = "node-not-ready"
    sentence = "cannot open {target}: this node of the cluster accepts no statements ({reason})"
    remedy = "Nothing was changed. Use another node, or wait until this one has joined the primary component."


class RowLocksMissingError(ConcurrentChangeError):
    code, exit_status = "row-locks-missing", Exit.FAILED
    sentence = "{target}: this server cannot lock rows that a query reads"
    remedy = "Nothing was changed. Compatible servers may lack a feature that this command needs."


class ReplicaNotConfiguredError(DbctlError):
    code, exit_status = "replica-not-configured", Exit.USAGE
    sentence = "no database of {app} has a replica"
    remedy = "Add its address as url under [apps.{app}.replicas.DATABASE], or run it without --replica."


class ReplicaReadOnlyError(ReadOnlyError):
    code = "replica-read-only"
    sentence = "{target} is read from its replica, which accepts no changes"
    remedy = "Nothing was changed. Run it without --replica."


class ReplicaPromotedError(DbctlError):
    code, exit_status = "replica-promoted", Exit.REFUSED
    sentence = "the replica of {target} accepts writes: it was promoted, or is not a replica"
    remedy = "Check which server is the primary, then correct databases and replicas in the configuration."


class ReplicaLagError(DbctlError):
    code, exit_status = "replica-lag", Exit.REFUSED
    sentence = "the replica of {target} is {lag} behind; max_lag is {limit:g} s"
    remedy = "Run it without --replica, check the replication, or raise max_lag in the configuration."


class ReplicaConflictError(DbctlError):
    code, exit_status = "replica-conflict", Exit.BUSY
    sentence = "{target}: the replica canceled a read that conflicts with replicated changes"
    remedy = (
        "Run it again, or set hot_standby_feedback = on or max_standby_streaming_delay = -1 on the replica."
    )
