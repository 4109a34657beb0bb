"""Write and read the archive of a report: `runs.json` and `predictions.npz`, from which it can be rebuilt."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from optstudy.errors import UsageError
from optstudy.optimizers import read_looks
from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.evidence import Evidence, RunEvidence
from optstudy.records.forms import FormError, from_form, to_form
from optstudy.records.io import replace_nonfinite
from optstudy.records.naming import check_file_name, check_name
from optstudy.records.plan import Plan
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, FinalRun, Predictions
from optstudy.records.search import read_search

RUNS = "runs.json"
PREDICTIONS = "predictions.npz"
# Raised by readers of files with unexpected content.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError)


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
    text = json.dumps(replace_nonfinite(content), separators=(",", ":"))
    return {RUNS: _split_lines(text), PREDICTIONS: _predictions(evidence)}


def read_archive(folder: Path) -> Evidence:
    """Read the archive in a report's folder.

    Raises:
        UsageError: If a file is missing, or was not written by a report.
    """
    evidence: Evidence = _read(_read_runs, folder / RUNS, "runs")
    predictions = _read(_read_predictions, folder / PREDICTIONS, "predictions")
    runs = tuple(replace(final, predictions=predictions.get(final.run.run_id)) for final in evidence.runs)
    return replace(evidence, runs=runs)


def _read(read: Callable[[Path], Any], path: Path, content: str) -> Any:
    """Read a file; errors describe the problem in one line."""
    try:
        return read(path)
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror or error}; give the folder of a report"
        ) from error
    except FormError as error:
        raise UsageError(f"{error}; write the report again") from error
    except _DAMAGED as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UsageError(
            f"{path} contains no {content} of a report ({reason}); write the report again"
        ) from error


def _read_runs(path: Path) -> Evidence:
    content = json.loads(path.read_text())
    for index, entry in enumerate(content["runs"]):
        _check_names(f"{path}: runs[{index}]", dict(entry))
    runs = tuple(_decode_run(dict(entry), f"{path}: run {entry['run_id']}") for entry in content["runs"])
    searches = tuple(
        read_search(entry, f"{path}: searches[{index}]") for index, entry in enumerate(content["searches"])
    )
    for index, search in enumerate(searches):
        names = {"study": search.study, "optimizer": search.space.name}
        _check_names(f"{path}: searches[{index}]", names)
    looks = read_looks({final.run.optimizer for final in runs}, Path(), [search.space for search in searches])
    excluded = from_form(dict[str, int], content["excluded"], f"{path}: excluded")
    studies = tuple(dict.fromkeys(final.run.study for final in runs))
    return Evidence(runs, searches, looks, excluded, studies)


def _check_names(where: str, entry: Mapping[str, Any]) -> None:
    """Raise FormError unless the names of an entry could be of a workspace, since files are named after them."""
    checks = {
        "study": check_name,
        "config": check_name,
        "optimizer": check_file_name,
        "run_id": check_file_name,
    }
    for field, check in checks.items():
        if isinstance(name := entry.get(field), str):
            try:
                check(field, name)
            except UsageError as error:
                raise FormError(f"{where}: {error}") from None


def _encode_run(run: FinalRun) -> dict[str, Any]:
    """Return a run as in the file: with its provenance, but without the location of its artifacts."""
    form = to_form(replace(run, files="", provenance=Provenance()))
    return {**form, "facts": run.provenance.details, "sources": to_form(run.provenance.sources)}


def _decode_run(content: dict[str, Any], where: str) -> RunEvidence:
    plan, epochs, details = (content.pop(name) for name in ("plan", "epochs", "facts"))
    sources = content.pop("sources", None)  # absent from early archives
    provenance = Provenance.from_details(
        from_form(dict[str, str], details, f"{where}: facts"),
        None if sources is None else from_form(dict[str, str], sources, f"{where}: sources"),
    )
    return RunEvidence(
        replace(from_form(FinalRun, content, where), provenance=provenance),
        None if plan is None else from_form(Plan, plan, f"{where}: plan"),
        from_form(tuple[EpochRecord, ...], epochs, f"{where}: epochs"),
    )


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


def _read_predictions(path: Path) -> dict[str, Predictions]:
    predictions = {}
    arrays = from_npz(path.read_bytes())
    for name in arrays:
        kind, _, number = name.rpartition("_")
        if kind == "labels":
            labels, classes = arrays[name].astype(np.int64), tuple(arrays[f"classes_{number}"].tolist())
            rows = arrays[f"predicted_{number}"].astype(np.int64)
            for run_id, predicted in zip(arrays[f"run_id_{number}"].tolist(), rows, strict=True):
                predictions[run_id] = Predictions(labels, predicted, classes)
    return predictions
