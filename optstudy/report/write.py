"""Read studies from MLflow, write their report into a folder, and log it to MLflow."""

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from optstudy.comparison.read import check_undamaged, read_studies
from optstudy.errors import UsageError
from optstudy.records.evidence import Evidence
from optstudy.records.io import remove_files, write_files
from optstudy.records.metrics import Tag
from optstudy.report.bundle import build_report
from optstudy.report.citation import unknown_citations
from optstudy.report.figures import glyph_notice
from optstudy.tracking import Tracking
from optstudy.tracking.evidence import read_files


@dataclass(frozen=True)
class WrittenReport:
    """The files of a written report, and the MLflow run that holds them."""

    page: Path
    files: tuple[str, ...]  # paths inside the folder
    run: str  # its MLflow run: EXPERIMENT, run NAME
    studies: tuple[str, ...]
    notices: tuple[
        str, ...
    ]  # about damaged runs, lost files, letters without a font, and citations without an entry


def write_report(
    tracking: Tracking,
    studies: Sequence[str],
    output: Path,
    *,
    workspace: Path = Path(),
) -> WrittenReport:
    """Write the report of some studies, by default the latest with a finished run.

    Args:
        tracking: The MLflow store.
        studies: Names of studies.
        output: Folder of the report, created if it does not exist.
        workspace: Folder whose space files define the looks of optimizers.

    Raises:
        UsageError: If a study does not exist, or no final run is finished.
        OptstudyError: If a file cannot be read or written.
    """
    evidence = read_studies(tracking, studies, workspace=workspace)
    if not evidence.runs:
        raise UsageError(
            f"no final run of {' and '.join(evidence.studies)} is finished yet; `optstudy status` shows its progress"
        )
    evidence = read_files(tracking, evidence)
    check_undamaged(evidence)
    files = build_report(evidence)
    write_files(output, files)
    try:
        run = _log(tracking, evidence, files)
    except BaseException:
        remove_files(output, files)  # else the same command would find the folder in use
        raise
    return WrittenReport(
        page=output / "index.html",
        files=tuple(files),
        run=run,
        studies=evidence.studies,
        notices=(
            *evidence.notices,
            *filter(None, [glyph_notice(_texts(evidence))]),
            *unknown_citations(look.cite for look in evidence.looks.values()),
        ),
    )


def _texts(evidence: Evidence) -> Iterator[str]:
    """Yield the texts of figures that users write."""
    yield from (look.label for look in evidence.looks.values())
    for run in evidence.runs:
        if run.predictions is not None:
            yield from run.predictions.classes


def _log(tracking: Tracking, evidence: Evidence, files: Mapping[str, bytes]) -> str:
    """Log a report to its first study's experiment; an identical report is logged only once."""
    key = hashlib.sha256(b"".join(files.values())).hexdigest()[:24]
    experiment, name = f"{evidence.studies[0]}/report", f"report-{key[:8]}"
    logged = tracking.logged_runs(experiment).get(name)
    if logged is None or not logged.finished:
        run_id = tracking.open_run(
            experiment,
            name,
            key=key,
            tags={Tag.STUDY: evidence.studies[0], Tag.KIND: "report"},
            params={"studies": ", ".join(evidence.studies), "runs": len(evidence.runs)},
            started_at=time.time(),
            logged=logged,
        )
        tracking.log_files(run_id, files)
        tracking.close_run(run_id, "completed")
    return f"{experiment}, run {name}"
