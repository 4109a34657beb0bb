"""What MLflow and a workspace tell of their studies, without running anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from optstudy.errors import UsageError
from optstudy.nearest import nearest
from optstudy.table import Comparison, compare
from optstudy.tracking import open_written
from optstudy.workspace import StudyFiles, read_recorded, study_names


def read_comparison(
    studies: Sequence[str], workspace: Path, tracking_uri: str | None
) -> tuple[Comparison, tuple[str, ...]]:
    """Compare the final runs of some studies, by default of the one written last.

    Returns:
        The comparison, and the names of the studies in it.

    Raises:
        UsageError: If there is no such study, or none at all.
    """
    tracking = open_written(workspace, tracking_uri)
    known = tracking.studies()
    if not known:
        raise UsageError(f"{tracking.shown_uri} has no final runs yet; run: optstudy study --preset quick")
    for name in studies:
        if name not in known:
            raise UsageError(
                f"no study {name!r} has final runs{nearest(name, known)}; there are {', '.join(known)}"
            )
    chosen = tuple(dict.fromkeys(studies)) or (known[-1],)
    return compare(tracking.final_runs(chosen), chosen), chosen


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
    tracking = open_written(workspace, tracking_uri)
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
                trials=sum(run.startswith(f"{optimizer}/") for run in done["tuning"]),
                trials_asked=asked.trials if "tuning" in recorded.begun else 0,
                runs=sum(run.startswith(f"{optimizer}/") for run in done["final"]),
                runs_asked=asked.seeds * len(asked.configs) if "training" in recorded.begun else 0,
            )
            for optimizer in asked.optimizers
        ]
    return standings
