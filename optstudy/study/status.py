"""Progress of the studies in a workspace."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from optstudy.errors import OptstudyError, UsageError, count_reasons
from optstudy.records.location import Location, study_names, workspace_option
from optstudy.records.naming import RunId
from optstudy.report.tables.table import count_label
from optstudy.study.accepted import accepted_hashes
from optstudy.study.workspace import RecordedStudy, StudyFiles, read_recorded
from optstudy.tracking import LoggedRun, Tracking, open_existing


@dataclass(frozen=True)
class OptimizerStatus:
    """Finished and planned work of one optimizer in a study."""

    study: str
    optimizer: str
    trials: int  # finished
    distinct: int  # configurations among them
    trials_asked: int
    search: Literal["unfinished", "finished", "failed"]  # failed: no trial completed
    runs: int  # finished final runs
    runs_asked: int
    failed_trials: Mapping[str, int]  # by reason
    failed_runs: Mapping[str, int]
    # Finished final runs that do not agree with their checksums, by what does not.
    damaged_runs: Mapping[str, int]
    missing_curvature: Mapping[str, int]  # final runs that lack the curvature at their end, by reason
    missing_trace: Mapping[str, int]  # final runs that lack the eigenvalues of their last steps, by reason
    accepted_sources: Mapping[str, list[str]]  # hashes of the study's accepted source files, the oldest first


def read_statuses(location: Location) -> list[OptimizerStatus]:
    """Return the progress of the workspace's studies, the most recent study last.

    A study whose file is damaged, or with an experiment that was deleted in MLflow, is left out; see
    `left_out_notices`.

    Raises:
        UsageError: If no study has run.
        OptstudyError: If all studies are left out.
    """
    names = study_names(location.workspace)
    if not names:
        raise UsageError(
            f"no study has run in {location.workspace.resolve()} yet; run: optstudy study --preset quick"
            f"{workspace_option(location.workspace)}"
        )
    left_out = left_out_notices(location)
    if len(left_out) == len(names):
        raise OptstudyError(left_out[names[-1]])
    tracking = open_recorded(location)
    present = [name for name in names if name not in left_out]
    return [status for name in present for status in _study_statuses(tracking, location.workspace, name)]


def left_out_notices(location: Location) -> dict[str, str]:
    """Return a message for each study whose file is damaged, or with an experiment deleted in MLflow, by study."""
    tracking, notices = open_recorded(location), {}
    for name in study_names(location.workspace):
        try:
            read_recorded(StudyFiles(location.workspace, name))
            tracking.check_not_deleted([name])
        except OptstudyError as error:
            notices[name] = str(error)
    return notices


def _study_statuses(tracking: Tracking, workspace: Path, name: str) -> list[OptimizerStatus]:
    recorded = read_recorded(StudyFiles(workspace, name))
    assert recorded is not None  # listed by its file
    specification = recorded.specification
    runs_asked = specification.training.seeds * len(specification.configs)
    logged = {kind: tracking.logged_runs(f"{name}/{kind}") for kind in ("tuning", "final")}
    statuses = []
    for optimizer in specification.optimizers:
        trials = [run for trial, run in logged["tuning"].items() if trial.rpartition("/")[0] == optimizer]
        runs = [run for final, run in logged["final"].items() if _optimizer(name, final) == optimizer]
        statuses.append(
            OptimizerStatus(
                study=name,
                optimizer=optimizer,
                trials=sum(run.ended for run in trials),
                distinct=len({run.key for run in trials if run.ended}),
                trials_asked=specification.tuning.trials if "tuning" in recorded.started_phases else 0,
                search=_search_state(logged["tuning"].get(optimizer)),
                runs=sum(run.finished for run in runs),
                runs_asked=runs_asked if "training" in recorded.started_phases else 0,
                failed_trials=count_reasons(run.problem for run in trials),
                failed_runs=count_reasons(run.problem for run in runs),
                damaged_runs=count_reasons(run.damage for run in runs),
                missing_curvature=count_reasons(run.curvature_problem for run in runs),
                missing_trace=count_reasons(run.trace_problem for run in runs),
                accepted_sources=accepted_hashes(recorded.fingerprint),
            )
        )
    return statuses


def _search_state(search: LoggedRun | None) -> Literal["unfinished", "finished", "failed"]:
    if search is None or not search.ended:
        return "unfinished"
    return "finished" if search.finished else "failed"


def _optimizer(study: str, final_run: str) -> str | None:
    run = RunId.parse(study, final_run)
    return run and run.optimizer


def other_server_notices(location: Location) -> list[str]:
    """Return a message for each of the workspace's studies that is logged to another server."""
    workspace = location.workspace
    now = open_recorded(location).server
    servers = {name: recorded_uri(workspace, name) for name in study_names(workspace)}
    return [
        f"study {name!r} is logged to {uri or 'the workspace'};"
        f" {f'give --tracking-uri {uri}' if uri else 'give no --tracking-uri'} to see its runs"
        for name, uri in servers.items()
        if uri is not None and uri != now
    ]


def unlogged_notices(location: Location) -> list[str]:
    """Return a message for each study whose work is in the workspace, but whose runs are not in its store."""
    tracking, workspace, notices = open_recorded(location), location.workspace, []
    for name in study_names(workspace):
        files = StudyFiles(workspace, name)
        try:
            recorded = read_recorded(files)
            logged = tracking.experiment_ids(name)
        except OptstudyError:  # see `left_out_notices`
            continue
        here = recorded is not None and recorded.fingerprint.get("tracking") == tracking.server
        if recorded and here and not logged and any(files.rungs.glob("*/*")):
            notices.append(
                f"study {name!r} has no runs in MLflow; to log them again from {files.folder}, run:"
                f" {_command(recorded)} --study {name}{workspace_option(workspace)}"
            )
    return notices


def _command(recorded: RecordedStudy) -> str:
    """Return the command that does all phases that a study has started."""
    if recorded.started_phases == ("training",):
        return train_command(recorded.specification.configs)
    return "optstudy study" if "training" in recorded.started_phases else "optstudy tune"


def train_command(configs: Sequence[str]) -> str:
    """Return the command that trains some configurations."""
    options = "" if tuple(configs) == ("best",) else "".join(f" --config {config}" for config in configs)
    return f"optstudy train{options}"


def earlier_run_notices(tracking: Tracking, studies: Iterable[str]) -> list[str]:
    """Return a message for each study whose name an earlier study with another specification had, if it left runs."""
    counts = {name: tracking.count_of_another_specification(name) for name in studies}
    return [
        f"{count_label('run', [count])} of an earlier study {name!r} with another specification"
        f" {'is' if count == 1 else 'are'} left out of tables; `optstudy rm` removes a study with its runs"
        for name, count in counts.items()
        if count
    ]


def open_recorded(location: Location) -> Tracking:
    """Open the store that studies have written to.

    Raises:
        UsageError: If no store exists; the message names the server of the most recent study, if it is known.
    """
    workspace = location.workspace
    try:
        return open_existing(location)
    except UsageError as error:
        uris = ((name, recorded_uri(workspace, name)) for name in reversed(study_names(workspace)))
        name, uri = next(((name, uri) for name, uri in uris if uri is not None), ("", ""))
        if uri:
            raise UsageError(f"study {name!r} is logged to {uri}; give --tracking-uri {uri}") from error
        raise


def recorded_uri(workspace: Path, study: str) -> str | None:
    """Return the server that a study was last logged to, "" for the workspace's own store; None if it is unknown."""
    try:
        recorded = read_recorded(StudyFiles(workspace, study))
    except OptstudyError:  # its file is damaged
        return None
    return recorded.fingerprint.get("tracking") if recorded else None
