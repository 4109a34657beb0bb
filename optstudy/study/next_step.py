"""The command with which a study goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.environment import package_versions
from optstudy.optimizers import load_space
from optstudy.records.location import Location
from optstudy.study.fingerprint import check_fingerprint
from optstudy.study.status import OptimizerStatus, open_recorded, recorded_uri, train_command
from optstudy.study.tuning.best import read_best
from optstudy.study.workspace import RecordedStudy, StudyFiles, check_not_running, read_recorded


@dataclass(frozen=True)
class NextStep:
    """A command that is not refused, or why the study cannot go on."""

    command: str  # without the options below; "" if there is none
    location: Location
    study: str | None = None
    optimizers: tuple[str, ...] = ()
    notice: str = ""


def next_step_of(location: Location, statuses: Sequence[OptimizerStatus]) -> NextStep:
    """Return the next command for a study; if it was last logged to another server, the command that reads that one.

    Args:
        location: The workspace, and the server that was read.
        statuses: All optimizers of the study.
    """
    study = statuses[0].study
    files = StudyFiles(location.workspace, study)
    recorded = read_recorded(files)
    assert recorded is not None  # it has a status
    uri, server = recorded_uri(location.workspace, study), open_recorded(location).server
    if uri is not None and uri != server:  # where its progress is seen
        elsewhere = Location(location.workspace, uri or None)
        return NextStep("optstudy status" if uri or location.tracking_uri else "", elsewhere)
    compared = "optstudy compare" if any(status.runs for status in statuses) else ""
    try:
        check_not_running(files)
    except UsageError as error:
        return NextStep("optstudy status", location, notice=str(error))
    command, optimizers = _work(files, recorded, statuses)
    if not command and compared:
        return NextStep(compared, location, study)
    try:
        spaces = {name: load_space(name, location.workspace) for name in optimizers}
        check_fingerprint(files, recorded, recorded.specification, spaces, package_versions())
    except OptstudyError as error:
        return NextStep(compared, location, study, notice=str(error))
    if not command:  # no trial completed, so the ranges may be wrong
        return NextStep(f"optstudy optimizers {optimizers[0]}", location)
    everything = len(optimizers) == len(statuses)
    return NextStep(command, location, study, () if everything else optimizers)


def _work(
    files: StudyFiles, recorded: RecordedStudy, statuses: Sequence[OptimizerStatus]
) -> tuple[str, tuple[str, ...]]:
    """Return the command that does what is left of a study, and its optimizers; "" and all if nothing can be done."""
    specification, phases = recorded.specification, recorded.started_phases
    names = tuple(status.optimizer for status in statuses)
    without_best = {name for name in names if not _has_best(files, name)}
    searching = any(
        status.search == "unfinished"
        or status.trials < status.trials_asked
        or (status.search == "finished" and status.optimizer in without_best)
        for status in statuses
    )
    if "tuning" in phases and searching:
        return ("optstudy study" if "training" in phases else "optstudy tune"), names
    configs = specification.configs
    trained = [status for status in statuses if "best" not in configs or status.optimizer not in without_best]
    if all(status.runs >= specification.training.seeds * len(configs) for status in trained):
        return "", names
    return train_command(configs), tuple(status.optimizer for status in trained)


def _has_best(files: StudyFiles, optimizer: str) -> bool:
    try:
        read_best(files, optimizer, load_space(optimizer, files.workspace))
    except OptstudyError:  # missing, or damaged: the search writes it again
        return False
    return True
