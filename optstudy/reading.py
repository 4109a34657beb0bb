"""What MLflow and a workspace tell of their studies, without running anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optstudy.errors import UsageError
from optstudy.nearest import nearest
from optstudy.searches import summarise
from optstudy.table import Comparison, compare
from optstudy.tracking import FinalRuns, Tracking, open_written
from optstudy.workspace import StudyFiles, read_recorded, study_names


@dataclass(frozen=True)
class Read:
    """Some studies as they were read."""

    tracking: Tracking
    studies: tuple[str, ...]
    final: FinalRuns
    comparison: Comparison


def read_studies(
    studies: Sequence[str], workspace: Path, tracking_uri: str | None, optimizers: Sequence[str] = ()
) -> Read:
    """Compare the final runs of some studies, by default of the one written last.

    Args:
        studies: Their names.
        workspace: Where they are.
        tracking_uri: Server that keeps their runs instead.
        optimizers: Of which optimizers the comparison shows rows and pairs; by default of all.

    Raises:
        UsageError: If there is no such study or optimizer, or none at all.
    """
    tracking = _opened(workspace, tracking_uri)
    known = tracking.studies()
    if not known:
        raise UsageError(f"{tracking.shown_uri} has no final runs yet; run: optstudy study --preset quick")
    for name in studies:
        if name not in known:
            raise UsageError(
                f"no study {name!r} has final runs{nearest(name, known)}; there are {', '.join(known)}"
            )
    chosen = tuple(dict.fromkeys(studies))
    if chosen:
        final = tracking.final_runs(chosen)
    else:
        chosen, final = _last_finished(tracking, known)
    there = sorted({run.optimizer for run in final.runs})
    for name in optimizers:
        if name not in there:
            raise UsageError(
                f"no final runs of {name!r} in {', '.join(chosen)}{nearest(name, there)}; there are {', '.join(there)}"
            )
    searches = [summarise(json.loads(data)) for data in tracking.search_files(chosen)]
    comparison = compare(final, chosen, tracking.predictions(final), searches)
    return Read(tracking, chosen, final, comparison.only(optimizers) if optimizers else comparison)


def _last_finished(tracking: Tracking, known: Sequence[str]) -> tuple[tuple[str, ...], FinalRuns]:
    """Read the study written last that has a finished run; where none has, the one written last."""
    for name in reversed(known):
        final = tracking.final_runs([name])
        if final.runs:
            return (name,), final
    return (known[-1],), tracking.final_runs([known[-1]])


@dataclass(frozen=True)
class Standing:
    """How far one optimizer of a study is."""

    study: str
    optimizer: str
    trials: int  # finished
    trials_asked: int
    runs: int  # finished final runs
    runs_asked: int


def read_standings(workspace: Path, tracking_uri: str | None) -> list[Standing]:
    """Say how far the workspace's studies are, the one written last at the end.

    Raises:
        UsageError: If there is none.
    """
    names = study_names(workspace)
    if not names:
        raise UsageError(f"no study has run in {workspace.resolve()} yet; run: optstudy study --preset quick")
    tracking = _opened(workspace, tracking_uri)
    standings = []
    for name in names:
        recorded = read_recorded(StudyFiles(workspace, name))
        assert recorded is not None  # listed by its file
        asked = recorded.specification
        done = {
            kind: [run for run, known in tracking.known_runs(f"{name}/{kind}").items() if known.ended]
            for kind in ("tuning", "final")
        }
        standings += [
            Standing(
                study=name,
                optimizer=optimizer,
                trials=sum(run.rpartition("/")[0] == optimizer for run in done["tuning"]),
                trials_asked=asked.trials if "tuning" in recorded.begun else 0,
                runs=sum(run.startswith(f"{optimizer}/") for run in done["final"]),
                runs_asked=asked.seeds * len(asked.configs) if "training" in recorded.begun else 0,
            )
            for optimizer in asked.optimizers
        ]
    return standings


def logged_elsewhere(workspace: Path, tracking_uri: str | None) -> list[str]:
    """Say in a line each which of the workspace's studies are logged to another place than the one that is read."""
    now = _opened(workspace, tracking_uri).server
    places = {name: _place(workspace, name) for name in study_names(workspace)}
    return [
        f"study {name!r} is logged to {place or 'the workspace'};"
        f" {f'give --tracking-uri {place}' if place else 'give no --tracking-uri'} to see its runs"
        for name, place in places.items()
        if place is not None and place != now
    ]


def _opened(workspace: Path, tracking_uri: str | None) -> Tracking:
    try:
        return open_written(workspace, tracking_uri)
    except UsageError as error:
        for name in reversed(study_names(workspace)):
            if place := _place(workspace, name):
                raise UsageError(
                    f"study {name!r} is logged to {place}; give --tracking-uri {place}"
                ) from error
        raise


def _place(workspace: Path, study: str) -> str | None:
    """Where a study was logged last, "" for the workspace's own store; None if that is not known."""
    recorded = read_recorded(StudyFiles(workspace, study))
    return recorded.facts.get("tracking") if recorded else None
