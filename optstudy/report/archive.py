"""Write and read the archive of a report: `runs.json` and `predictions.npz`, from which it can be rebuilt.

The last keys of `runs.json` are the checksums of `predictions.npz` and of what precedes it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from optstudy.errors import UsageError
from optstudy.optimizers import read_looks
from optstudy.records.arrays import ArrayRecord, from_npz, to_npz
from optstudy.records.checksums import DISAGREES, Damage, file_checksum
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import FormError, from_form, from_json, to_form
from optstudy.records.inputs import read_input
from optstudy.records.io import CHECKSUM, checksum, replace_nonfinite
from optstudy.records.naming import check_file_name, check_name, check_run_names
from optstudy.records.plan import Plan
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import SearchResult, read_search

RUNS = "runs.json"
PREDICTIONS = "predictions.npz"
_REMEDY = "give the folder of a report"


@dataclass(frozen=True, kw_only=True)
class _ArchivedRun(FinalRun):
    """A run in ``runs.json``."""

    plan: Plan | None
    epochs: tuple[EpochRecord, ...]
    facts: Mapping[str, str]  # `Provenance.details`
    sources: Mapping[str, str] | None = None  # absent from early archives

    def __post_init__(self) -> None:
        check_run_names(self.study, self.optimizer, self.config)
        check_file_name("run_id", self.run_id)


@dataclass(frozen=True)
class _Archive:
    """The content of ``runs.json``."""

    runs: tuple[_ArchivedRun, ...]
    excluded: dict[str, int]
    searches: tuple[dict[str, Any], ...]  # see `read_search`
    damaged: tuple[Damage, ...] = ()
    predictions: str = ""  # SHA-256 of ``predictions.npz``; absent from early archives


@dataclass(frozen=True)
class _PredictionSet(ArrayRecord):
    """The predictions of some runs for the same test images, in ``predictions.npz``."""

    labels: Annotated[NDArray[np.int64], "n"]
    classes: tuple[str, ...]
    run_id: Annotated[NDArray[np.str_], "r"]
    predicted: Annotated[NDArray[np.int64], "r", "n"]


def archive(evidence: Evidence) -> dict[str, bytes]:
    """Write runs and searches as JSON, and predictions as arrays; eigenvalue traces and landscapes are omitted.

    Returns:
        ``runs.json``, and ``predictions.npz`` with ``run_id``, ``predicted`` (R, N) and, once for each set of
        test images, ``labels`` and ``classes``.
    """
    runs = [
        {**_encode_run(final.run), "plan": to_form(final.plan), "epochs": to_form(final.epochs)}
        for final in evidence.runs
    ]
    searches = [search.to_form() for search in evidence.searches]
    content = {"runs": runs, "excluded": evidence.excluded, "searches": searches}
    if evidence.damaged:
        content["damaged"] = to_form(evidence.damaged)
    predictions = _predictions(evidence)
    content = replace_nonfinite({**content, "predictions": file_checksum(predictions)})
    text = json.dumps({**content, CHECKSUM: checksum(content)}, separators=(",", ":"))
    return {RUNS: _split_lines(text), PREDICTIONS: predictions}


def read_archive(folder: Path) -> Evidence:
    """Read the archive in a report's folder.

    Raises:
        UsageError: If a file is missing, or was not written by a report.
    """
    try:
        evidence, digest = _read_runs(folder / RUNS)
        predictions = _read_predictions(folder / PREDICTIONS, digest)
    except FormError as error:
        raise UsageError(f"{error}; write the report again") from error
    runs = tuple(replace(final, predictions=predictions.get(final.run.run_id)) for final in evidence.runs)
    return replace(evidence, runs=runs)


def _read_runs(path: Path) -> tuple[Evidence, str]:
    """Return what a file has, and the checksum of the predictions beside it; "" if there is none."""
    content = from_json(dict[str, Any], read_input(path, _REMEDY), str(path))
    if CHECKSUM in content and content.pop(CHECKSUM) != checksum(content):
        raise FormError(f"{path} {DISAGREES}")
    archived = from_form(_Archive, content, str(path))
    runs = tuple(_decode_run(run) for run in archived.runs)
    searches = tuple(
        _read_search(entry, f"{path}: searches[{index}]") for index, entry in enumerate(archived.searches)
    )
    looks = read_looks({final.run.optimizer for final in runs}, Path(), [search.space for search in searches])
    studies = tuple(dict.fromkeys(final.run.study for final in runs))
    unchecked = 0 if archived.predictions else len(runs) + len(searches)
    evidence = Evidence(runs, searches, looks, archived.excluded, studies, archived.damaged, unchecked)
    return evidence, archived.predictions


def _read_search(content: dict[str, Any], where: str) -> SearchResult:
    search = read_search(content, where)
    try:
        check_name("study", search.study)
        check_file_name("optimizer", search.space.name)
    except UsageError as error:
        raise FormError(f"{where}: {error}") from None
    return search


def _encode_run(run: FinalRun) -> dict[str, Any]:
    """Return a run as in the file: with its provenance, but without its artifacts."""
    form = to_form(replace(run, files="", checksums=None, provenance=Provenance()))
    return {**form, "facts": run.provenance.details, "sources": to_form(run.provenance.sources)}


def _decode_run(archived: _ArchivedRun) -> RunEvidence:
    run = FinalRun(**{field.name: getattr(archived, field.name) for field in fields(FinalRun)})
    provenance = Provenance.from_details(archived.facts, archived.sources)
    return RunEvidence(replace(run, provenance=provenance), archived.plan, archived.epochs)


def _split_lines(text: str) -> bytes:
    """Put each run and search on its own line, so that diffs are readable."""
    for start in ('{"run_id"', '{"study"'):
        text = text.replace(f",{start}", f",\n{start}").replace(f"[{start}", f"[\n{start}")
    return (text + "\n").encode()


def _predictions(evidence: Evidence) -> bytes:
    """Gather the predictions, numbered by their set of test images."""
    sets: dict[tuple[bytes, tuple[str, ...]], list[tuple[str, Predictions]]] = {}  # by labels and classes
    for final in evidence.runs:
        if predictions := final.predictions:
            sets.setdefault((predictions.labels.tobytes(), predictions.classes), []).append(
                (final.run.run_id, predictions)
            )
    arrays: dict[str, Any] = {}
    for number, members in enumerate(sets.values()):
        arrays[f"labels_{number}"] = _compact(members[0][1].labels)
        arrays[f"classes_{number}"] = np.array(members[0][1].classes, dtype=np.str_)
    for number, members in enumerate(sets.values()):
        arrays[f"run_id_{number}"] = np.array([run_id for run_id, _ in members])
        arrays[f"predicted_{number}"] = _compact(
            np.stack([predictions.predicted for _, predictions in members])
        )
    return to_npz(arrays)


def _compact(classes: Any) -> Any:
    return classes.astype(np.uint8) if classes.max(initial=0) <= np.iinfo(np.uint8).max else classes


def _read_predictions(path: Path, digest: str) -> dict[str, Predictions]:
    data = read_input(path, _REMEDY)
    if digest and file_checksum(data) != digest:
        raise FormError(f"{path} {DISAGREES} in {RUNS}")
    arrays = from_npz(data, str(path))
    predictions = {}
    for number in (name.removeprefix("labels_") for name in arrays if name.startswith("labels_")):
        found = {
            name.removesuffix(f"_{number}"): arrays[name] for name in arrays if name.endswith(f"_{number}")
        }
        one = _PredictionSet.from_arrays(found, f"{path}, set {number}")
        for run_id, predicted in zip(one.run_id.tolist(), one.predicted, strict=True):
            predictions[run_id] = Predictions(one.labels, predicted, one.classes)
    return predictions
