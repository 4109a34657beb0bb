"""All that is needed to repeat the runs of a report, and to make its tables again: two plain files."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from optstudy.comparison.table import Comparison, compare
from optstudy.errors import UsageError
from optstudy.optimizers import read_looks
from optstudy.records.arrays import from_npz, to_npz
from optstudy.records.evidence import Evidence
from optstudy.records.forms import FormError, from_form, to_form
from optstudy.records.io import plain
from optstudy.records.look import Looks
from optstudy.records.plan import Plan
from optstudy.records.provenance import Provenance
from optstudy.records.run import EpochRecord, FinalRun, FinalRuns, Predictions
from optstudy.records.search import SearchResult, read_search

RUNS = "runs.json"
PREDICTIONS = "predictions.npz"
# What readers raise at JSON or arrays of something else.
_DAMAGED = (ValueError, KeyError, TypeError, AttributeError)


@dataclass(frozen=True)
class Archive:
    """What the files of a report hold."""

    final: FinalRuns
    predictions: dict[str, Predictions]
    searches: tuple[SearchResult, ...]
    looks: Looks
    plans: dict[str, Plan]  # by run
    epochs: dict[str, tuple[EpochRecord, ...]]  # by run

    def compare(self) -> Comparison:
        """Make the comparison again."""
        studies = tuple(dict.fromkeys(run.study for run in self.final.runs))
        return compare(self.final, studies, self.predictions, self.searches, self.looks)


def archive(evidence: Evidence, excluded: Mapping[str, int]) -> dict[str, bytes]:
    """Write runs and searches as JSON, and predictions as arrays without pickles.

    Returns:
        ``runs.json``, and ``predictions.npz`` with ``run_id``, ``predicted`` (R, N) and, once for each set of
        test images, ``labels`` and ``classes``.
    """
    runs = [
        {
            **_form(one.run),
            "plan": to_form(one.plan),
            "epochs": to_form(one.epochs),
        }
        for one in evidence.runs
    ]
    searches = [one.to_form() for one in evidence.searches]
    content = {"runs": runs, "excluded": dict(excluded), "searches": searches}
    text = json.dumps(plain(content), separators=(",", ":"))
    return {RUNS: _lines(text), PREDICTIONS: _predictions(evidence)}


def read_archive(folder: Path) -> Archive:
    """Read what a report's folder holds.

    Raises:
        UsageError: If a file is not there, or is not what a report writes.
    """
    found: Archive = _made(_read_runs, folder / RUNS, "runs")
    return replace(found, predictions=_made(_read_predictions, folder / PREDICTIONS, "predictions"))


def _made(read: Callable[[Path], Any], path: Path, what: str) -> Any:
    """Read a file, or say in one line what is wrong with it."""
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
        raise UsageError(f"{path} holds no {what} of a report ({reason}); write the report again") from error


def _read_runs(path: Path) -> Archive:
    content = json.loads(path.read_text())
    runs, plans, epochs = [], {}, {}
    for one in content["runs"]:
        where, of_run = f"{path}: run {one['run_id']}", dict(one)
        plan, records = of_run.pop("plan"), of_run.pop("epochs")
        runs.append(_run(of_run, where))
        epochs[runs[-1].run_id] = from_form(tuple[EpochRecord, ...], records, f"{where}: epochs")
        if plan is not None:
            plans[runs[-1].run_id] = from_form(Plan, plan, f"{where}: plan")
    searches = tuple(
        read_search(one, f"{path}: searches[{place}]") for place, one in enumerate(content["searches"])
    )
    looks = read_looks({run.optimizer for run in runs}, Path(), [one.space for one in searches])
    return Archive(FinalRuns(tuple(runs), content["excluded"]), {}, searches, looks, plans, epochs)


def _form(run: FinalRun) -> dict[str, Any]:
    """Return a run as its line has it, with what it rests on beside its other fields, and not where its files lie."""
    form = to_form(replace(run, files="", provenance=Provenance()))
    return {**form, "facts": run.provenance.details, "sources": to_form(run.provenance.sources)}


def _run(content: dict[str, Any], where: str) -> FinalRun:
    details, sources = content.pop("facts"), content.pop("sources", None)  # absent in the first files
    provenance = Provenance.from_details(
        from_form(dict[str, str], details, f"{where}: facts"),
        None if sources is None else from_form(dict[str, str], sources, f"{where}: sources"),
    )
    return replace(from_form(FinalRun, content, where), provenance=provenance)


def _lines(text: str) -> bytes:
    """One run or search a line, so that a change of one shows as such."""
    for start in ('{"run_id"', '{"study"'):
        text = text.replace(f",{start}", f",\n{start}").replace(f"[{start}", f"[\n{start}")
    return (text + "\n").encode()


def _predictions(evidence: Evidence) -> bytes:
    known = [(one.run.run_id, one.predictions) for one in evidence.runs if one.predictions is not None]
    sets: dict[tuple[bytes, tuple[str, ...]], int] = {}  # test labels and names of classes -> their number
    arrays: dict[str, Any] = {}
    members: dict[int, list[str]] = {}
    rows: dict[int, list[Any]] = {}
    for run_id, found in known:
        number = sets.setdefault((found.labels.tobytes(), found.classes), len(sets))
        members.setdefault(number, []).append(run_id)
        rows.setdefault(number, []).append(found.predicted)
        arrays[f"labels_{number}"] = _small(found.labels)
        arrays[f"classes_{number}"] = np.array(found.classes, dtype=np.str_)
    for number, names in members.items():
        arrays[f"run_id_{number}"] = np.array(names)
        arrays[f"predicted_{number}"] = _small(np.stack(rows[number]))
    return to_npz(arrays)


def _small(classes: Any) -> Any:
    return classes.astype(np.uint8) if classes.max(initial=0) <= np.iinfo(np.uint8).max else classes


def _read_predictions(path: Path) -> dict[str, Predictions]:
    found = {}
    arrays = from_npz(path.read_bytes())
    for name in arrays:
        if not name.startswith("labels_"):
            continue
        number = name.removeprefix("labels_")
        labels, classes = arrays[name].astype(np.int64), tuple(arrays[f"classes_{number}"].tolist())
        rows = arrays[f"predicted_{number}"].astype(np.int64)
        for run_id, predicted in zip(arrays[f"run_id_{number}"].tolist(), rows, strict=True):
            found[run_id] = Predictions(labels, predicted, classes)
    return found
