"""Notices before a study's work starts."""

from collections.abc import Iterator, Mapping
from typing import Any

from optstudy.study.events import Notice
from optstudy.study.specification import Specification
from optstudy.tracking import LoggedRun


def adjusted_counts(
    study: str, specification: Specification, changes: Mapping[str, Any], *, tuning: bool, training: bool
) -> Iterator[Notice]:
    """Report if the number of trials or seeds differs from the requested one."""
    tuned, seeds = specification.tuning, specification.training.seeds
    trials, whole = tuned.trials, tuned.whole_trials
    if tuning and changes.get("trials", trials) < trials:
        yield Notice(f"study {study!r} has {trials} trials an optimizer already; it keeps to them")
    if tuning and whole != trials:
        yield Notice(f"{trials} trials become {whole}: they come in whole batches of {tuned.batch}")
    if training and changes.get("seeds", seeds) < seeds:
        yield Notice(f"study {study!r} has {seeds} seeds a configuration already; it keeps to them")


def moved_server(study: str, before: str | None, now: str) -> Iterator[Notice]:
    """Report if a study was previously logged to another server.

    A server is "" for the workspace's own store, and None if it is not known.
    """
    if before is not None and before != now:
        advice = f"give --tracking-uri {before}" if before else "give no --tracking-uri"
        yield Notice(
            f"study {study!r} was logged to {before or 'the workspace'} so far, and is logged to"
            f" {now or 'the workspace'} now; {advice} to keep it in one place"
        )


def lost_files(logged: Mapping[str, Mapping[str, LoggedRun]]) -> Iterator[Notice]:
    """Report if artifacts of finished runs are missing."""
    count = sum(run.lost for runs in logged.values() for run in runs.values())
    if count:
        yield Notice(
            f"mlruns/artifacts lacks the files of {count} finished runs;"
            " those that this command is about are written again"
        )
