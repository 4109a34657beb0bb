"""Decode MLflow runs into typed records, and find damage by their checksums."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.entities import Run

from optstudy.errors import OptstudyError, UsageError, one_line
from optstudy.records.checksums import DISAGREES, Checksums, Damage, RunContent, is_checked, metric_checksum
from optstudy.records.metrics import STEP_SECONDS, TEST_ACCURACY, Tag, read_final_metrics, read_provenance
from optstudy.records.naming import RunId, check_run_names
from optstudy.records.run import FinalRun

OTHER_SPECIFICATION = "of another specification"
UNFINISHED = "unfinished"
DUPLICATE = "logged twice"  # another run of the same optimizer, configuration and seed started later
RESTORED = "the study's command restores it"
LOGGED_AGAIN = "delete its run in MLflow, and the study's command logs it again"
MARGIN = 0.001  # of runs logged before studies had a margin


@dataclass(frozen=True)
class StoredExperiment:
    """An experiment of a study, which may have been deleted in MLflow."""

    experiment_id: str
    name: str  # STUDY/KIND, also after it was renamed
    stored_name: str
    deleted: bool
    runs: int
    folder: Path | None  # of its artifacts in the embedded store; None on a server

    @property
    def removed(self) -> bool:
        """Whether `Tracking.remove_experiment` has removed it."""
        return self.deleted and self.stored_name != self.name


@dataclass(frozen=True)
class LoggedRun:
    """A run that is already logged in MLflow."""

    run_id: str
    key: str  # hash of everything that determines the run
    finished: bool
    ended: bool  # finished, or a trial that was pruned or failed
    lost: bool = False  # finished, but its files are gone, so it must be logged again
    damage: str = ""  # finished, but damaged in this way, so it must be logged again
    irreparable: bool = False  # whether the damage cannot be overwritten, so that a new run must replace it
    space: str = ""  # hash of the space of a search; "" if it was not recorded
    problem: str = ""  # why it failed
    curvature_problem: str = ""  # why its curvature is missing, which a rerun tries to measure again
    trace_problem: str = ""  # why the eigenvalues of its last steps are missing
    curvature_format: str = ""  # see `CURVATURE_FORMAT`; "" without curvature at its end
    timed: bool = False  # whether it has the seconds of a step


def name_in_study(run: Run) -> str:
    """Return a run's name within its study, also if it was renamed in MLflow."""
    tags, params = run.data.tags, run.data.params
    if Tag.RUN in tags:
        return str(tags[Tag.RUN])
    try:  # a final run that was logged before there was the tag
        return RunId(tags[Tag.STUDY], params["optimizer"], params["config"], int(params["seed"])).name
    except (KeyError, TypeError, ValueError):
        return str(run.info.run_name)


def decode_logged_run(run: Run, *, embedded: bool, with_files: bool) -> LoggedRun:
    """Decode the state of a run.

    Args:
        run: The run.
        embedded: Whether it is in the embedded store; only there artifacts are checked.
        with_files: Whether the content of artifacts is checked, too.
    """
    finished, tags = run.info.status == "FINISHED", run.data.tags
    ended = finished or tags.get(Tag.OUTCOME) in ("pruned", "failed")
    writes_files = tags.get(Tag.KIND) in ("search", "final") or Tag.CHECKSUMS in tags
    checksums, damage = check_run(run) if finished else (None, "")
    recorded = _recorded(tags, checksums)
    irreparable = bool(damage)
    folder = local_folder(run.info.artifact_uri or "")
    lost = embedded and finished and writes_files and not (folder and folder.is_dir())
    if embedded and finished and with_files and not (lost or damage) and folder:
        damage = next(differing_files(folder, checksums.files if checksums else {}), "")
    return LoggedRun(
        run_id=run.info.run_id,
        key=tags.get(Tag.KEY, ""),
        finished=finished and not (lost or damage),
        ended=ended and not (lost or damage),
        lost=lost,
        damage=damage,
        irreparable=irreparable,
        space=tags.get(Tag.SPACE, ""),
        problem=tags.get(Tag.PROBLEM, "") if tags.get(Tag.OUTCOME) == "failed" else "",
        curvature_problem=recorded.get(Tag.CURVATURE_PROBLEM, ""),
        trace_problem=recorded.get(Tag.TRACE_PROBLEM, ""),
        curvature_format=recorded.get(Tag.CURVATURE_FORMAT, "0") if Tag.VERDICT in recorded else "",
        timed=Tag.PACE_CHECKSUM in tags,
    )


def _recorded(tags: Mapping[str, str], checksums: Checksums | None) -> Mapping[str, str]:
    """Return the tags without those of optstudy that an earlier logging of the same run has left."""
    if checksums is None:
        return tags
    return {name: value for name, value in tags.items() if name in checksums.tags or not is_checked(name)}


def check_run(run: Run) -> tuple[Checksums | None, str]:
    """Compare an ended run with its checksums.

    Returns:
        The checksums, None if the run was logged before there were any or they cannot be read; and which metric,
        parameter or tag does not agree, "" if all do.
    """
    tags, metrics = run.data.tags, run.data.metrics
    if Tag.CHECKSUMS not in tags:
        return None, ""
    try:
        recorded = Checksums.from_tag(tags[Tag.CHECKSUMS])
        differences = recorded.differences(RunContent(metrics, run.data.params, tags).checksums())
        pace = tags.get(Tag.PACE_CHECKSUM)
        if pace is not None and (
            STEP_SECONDS not in metrics or metric_checksum(metrics[STEP_SECONDS]) != pace
        ):
            differences.append(f"its metric {STEP_SECONDS} {DISAGREES}")
    except OptstudyError as error:
        return None, str(error)
    except (TypeError, ValueError, AttributeError) as error:  # SQLite holds values of any type in any column
        return None, f"a metric, parameter or tag cannot be read ({one_line(error)})"
    others = f" (and {len(differences) - 1} more)" if len(differences) > 1 else ""
    return recorded, differences[0] + others if differences else ""


def differing_files(folder: Path, checksums: Mapping[str, str]) -> Iterator[str]:
    """Yield which files of a local folder are missing, or do not agree with their checksum."""
    for name, recorded in checksums.items():
        try:
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != recorded:
                    yield f"its file {name} {DISAGREES}"
        except FileNotFoundError:
            yield f"its file {name} is missing"
        except OSError as error:
            yield f"its file {name} cannot be read ({error.strerror})"


def local_folder(uri: str) -> Path | None:
    """Return the local folder of an artifact URI; None if it is on a server or in a bucket."""
    parts = urlsplit(uri)
    return Path(unquote(parts.path)) if parts.scheme in ("", "file") and parts.path else None


def decode_final_run(run: Run, study: str, *, of_another_specification: bool) -> FinalRun | Damage | str:
    """Decode a finished final run; return the damage of a damaged one, or the reason why one is excluded."""
    if reason := _exclusion_reason(run, of_another_specification=of_another_specification):
        return reason
    title = f"{study}/{name_in_study(run)}"
    checksums, problem = check_run(run)
    if problem:
        return Damage(title, problem, RESTORED, run.info.run_id)
    if TEST_ACCURACY not in run.data.metrics:
        return UNFINISHED
    if Tag.STUDY not in run.data.tags:
        return "without its tags"
    try:
        check_run_names(run.data.tags[Tag.STUDY], run.data.params["optimizer"], run.data.params["config"])
        return _final_run(run, checksums)
    except UsageError as error:  # of its names
        problem = str(error)
    except (KeyError, TypeError, ValueError, OverflowError) as error:  # logged before runs had checksums
        problem = f"a metric, parameter or tag is missing or wrong ({one_line(error)})"
    return Damage(title, problem, LOGGED_AGAIN, run.info.run_id)


def _exclusion_reason(run: Run, *, of_another_specification: bool) -> str | None:
    """Return why a final run is excluded from comparisons without being read; None if it is not."""
    if of_another_specification:
        return OTHER_SPECIFICATION
    if run.data.tags.get(Tag.SUPERSEDED) == "true":
        return "superseded"
    if run.info.status == "FAILED":
        return "failed"
    if run.info.status != "FINISHED":
        return UNFINISHED
    sealed = Tag.CHECKSUMS in run.data.tags
    return "failed" if not sealed and run.data.tags.get(Tag.OUTCOME) == "failed" else None


def _final_run(run: Run, checksums: Checksums | None) -> FinalRun:
    """Decode a final run; the error of a damaged one has any of several types."""
    tags, metrics, params = _recorded(run.data.tags, checksums), run.data.metrics, run.data.params
    shown = params
    if checksums is not None:
        shown = checksums.of_study(params)
        metrics = {name: metrics[name] for name in (*checksums.metrics, STEP_SECONDS) if name in metrics}
    return FinalRun(
        run_id=run.info.run_id,
        study=tags[Tag.STUDY],
        optimizer=params["optimizer"],
        config=params["config"],
        seed=int(params["seed"]),
        outcome=tags[Tag.OUTCOME],
        paper_setting=tags.get(Tag.PAPER_SETTING) == "true",
        margin=float(tags.get(Tag.MARGIN, MARGIN)),
        params={name: value for name, value in shown.items() if name not in ("optimizer", "config", "seed")},
        target=float(tags[Tag.TARGET]) if Tag.TARGET in tags else None,
        files=run.info.artifact_uri or "",
        finished_at=run.info.end_time / 1000 if run.info.end_time else None,
        provenance=read_provenance(tags),
        key=tags.get(Tag.KEY, ""),
        curvature_problem=tags.get(Tag.CURVATURE_PROBLEM, ""),
        trace_problem=tags.get(Tag.TRACE_PROBLEM, ""),
        checksums=None if checksums is None else checksums.files,
        **read_final_metrics(metrics, tags.get(Tag.VERDICT, ""), tags.get(Tag.SIGN, "")),
    )
