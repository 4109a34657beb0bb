"""Notices shown before the work of a study starts."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from optstudy.records.curvature import CURVATURE_FORMAT
from optstudy.records.naming import RunId
from optstudy.report.figures import glyph_notice
from optstudy.report.tables.table import count_label
from optstudy.study.events import Event, Notice, Resumed, UncheckedFile
from optstudy.study.specification import Specification
from optstudy.study.tuning.best import read_best_file
from optstudy.study.workspace import RecordedStudy, StudyFiles
from optstudy.tracking import LoggedRun


def count_unchecked(study: str, events: Iterator[Event | UncheckedFile]) -> Iterator[Event]:
    """Pass events on, and report at the end how many files without a checksum were read."""
    paths = set()
    with contextlib.closing(events):  # type: ignore[type-var]  # a generator
        for event in events:
            if isinstance(event, UncheckedFile):
                paths.add(event.path)
            else:
                yield event
    if paths:
        yield Notice(
            f"study {study!r}: {count_label('file', [len(paths)])} without a checksum, as earlier versions of"
            " optstudy wrote them; changes to them cannot be detected"
        )


def adjusted_counts(
    study: str, specification: Specification, changes: Mapping[str, Any], *, tuning: bool, training: bool
) -> Iterator[Notice]:
    """Report if the number of trials or seeds differs from the requested one."""
    tuned, seeds = specification.tuning, specification.training.seeds
    trials, rounded = tuned.trials, tuned.rounded_trials
    if tuning and changes.get("trials", trials) < trials:
        yield Notice(f"study {study!r} has {trials} trials per optimizer already; the number cannot decrease")
    if tuning and rounded != trials:
        yield Notice(f"{trials} trials are rounded up to {rounded}, a multiple of batch {tuned.batch}")
    if training and changes.get("seeds", seeds) < seeds:
        yield Notice(
            f"study {study!r} has {seeds} seeds per configuration already; the number cannot decrease"
        )


def earlier_best(
    study: str, recorded: RecordedStudy | None, params: Iterable[tuple[str, str]]
) -> Iterator[Notice]:
    """Report if best configurations are trained that this study has not searched for.

    They are of an earlier study with the same name, or were put there by hand.
    """
    names = [optimizer for optimizer, config in params if config == "best"]
    if names and (recorded is None or "tuning" not in recorded.started_phases):
        yield Notice(
            f"study {study!r} has not been tuned: the best configuration of {', '.join(names)} in tuning/best/{study}"
            " is that of an earlier search"
        )


def unchecked_best(files: StudyFiles, params: Iterable[tuple[str, str]]) -> Iterator[Notice]:
    """Report if best configurations are trained whose files have no checksum."""
    names = [name for name, config in params if config == "best"]
    unchecked = [name for name in names if not read_best_file(files.best(name)).has_checksum]
    if unchecked:
        yield Notice(
            f"the best configuration of {', '.join(unchecked)} in {files.bests} has no checksum:"
            " it is used as it is, whether a search or a user wrote it"
        )


def moved_server(study: str, before: str | None, now: str) -> Iterator[Notice]:
    """Report if a study was previously logged to another server.

    A server is "" for the workspace's own store, and None if it is unknown.
    """
    if before is not None and before != now:
        advice = f"give --tracking-uri {before}" if before else "give no --tracking-uri"
        yield Notice(
            f"study {study!r} was logged to {before or 'the workspace'} so far, but is now logged to"
            f" {now or 'the workspace'}; {advice} to keep its runs together"
        )


def earlier_work(logged: Mapping[str, Mapping[str, LoggedRun]]) -> Iterator[Resumed]:
    """Report the trials and final runs that earlier commands have ended; ``logged`` is by experiment and name."""
    ended = [
        (experiment.rpartition("/")[2], name.count("/"))
        for experiment, runs in logged.items()
        for name, run in runs.items()
        if run.ended
    ]
    trials, runs = ended.count(("tuning", 1)), sum(kind == "final" for kind, _ in ended)
    if trials or runs:
        yield Resumed(trials, runs)


def lost_files(logged: Mapping[str, Mapping[str, LoggedRun]]) -> Iterator[Notice]:
    """Report if artifacts of finished runs are missing."""
    count = sum(run.lost for runs in logged.values() for run in runs.values())
    if count:
        yield Notice(
            f"mlruns/artifacts lacks the files of {count_label('finished run', [count])};"
            " this command restores those of its own runs"
        )


def earlier_curvature(logged: Mapping[str, Mapping[str, LoggedRun]]) -> Iterator[Notice]:
    """Report if the curvature of finished runs was measured in another format."""
    known = ("", str(CURVATURE_FORMAT))
    count = sum(run.curvature_format not in known for runs in logged.values() for run in runs.values())
    if count:
        yield Notice(
            f"the curvature of {count_label('finished run', [count])} was measured by another version of optstudy;"
            " where the weights are in the workspace, this command measures it again at the end of its own runs,"
            " without training. Eigenvalues of the last steps, which are found during training, stay as they are"
        )


def damaged_runs(
    logged: Mapping[str, Mapping[str, LoggedRun]],
    phases: Collection[str],
    optimizers: Collection[str],
    configs: Collection[str],
) -> Iterator[Notice]:
    """Report each run and search that is damaged in MLflow, and whether this command logs it again."""
    for experiment, runs in logged.items():
        study, _, kind = experiment.rpartition("/")
        for name, run in runs.items():
            if not run.damage:
                continue
            final = RunId.parse(study, name) if kind == "final" else None
            if final is None:
                own = "tuning" in phases and name in optimizers
            else:
                own = "training" in phases and final.optimizer in optimizers and final.config in configs
            again = "this command logs it again" if own else "the command that made it logs it again"
            if own and run.irreparable:
                again += ", and deletes the damaged run in MLflow, which keeps deleted runs"
            yield Notice(f"{'' if final else 'the search '}{study}/{name} is damaged: {run.damage}; {again}")


def letters_without_font(texts: Iterable[str]) -> Iterator[Notice]:
    """Report if figures show letters of the texts as boxes."""
    if notice := glyph_notice(texts):
        yield Notice(notice)
