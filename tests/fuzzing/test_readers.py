"""Whatever is in a file, its reader accepts it or says in one line what is wrong, and runs nothing that it names."""

import gzip
import importlib.abc
import io
import json
import resource
import sys
import tempfile
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import mutations
import pytest
import reports
import torch
from evidence import search_result
from mutations import Mutation, mixed
from torch import nn

from optstudy.errors import OptstudyError
from optstudy.optimizers import find_spaces, load_space
from optstudy.optimizers.space_file import parse_space
from optstudy.posthoc.checkpoints import load_weights, read_weights
from optstudy.posthoc.samples import read_indices
from optstudy.records.curvature import CurvatureResult
from optstudy.records.eigen_trace import EigenTrace
from optstudy.records.forms import from_json, to_form
from optstudy.records.plan import Plan
from optstudy.records.run import EpochRecord, Observation, Predictions, Rung
from optstudy.records.search import read_search
from optstudy.report.archive import PREDICTIONS, RUNS, archive, read_archive
from optstudy.study.presets import read_preset
from optstudy.study.specification import Specification
from optstudy.study.tuning.best import read_best_file
from optstudy.study.workspace import RecordedStudy, StudyFiles, read_recorded, write_recorded
from optstudy.workloads.mnist import gunzip, parse_idx

MEMORY = 4 * 2**30  # bytes that a reader may claim beside what the process has
FEW, ALL = 20, 100_000  # inputs of each reader in CI, and of all of them in the campaign
PARTS = 8  # tests into which the campaign divides a reader's inputs

ARCHIVE, _ = reports.unsealed(
    archive(reports.made_up(("sgd", "adam"), 2))
)  # by checksums all damage would be found
ONE = reports.made_up(("sgd",), 1).runs[0]
MODEL = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
RUNG = Rung(
    epochs=ONE.epochs[:2],
    observations=(Observation("eigen", 3, {"lambda_1": 1.5, "verdict": "separated", "ratio": None}),),
    outcome="completed",
    predicted=(1, 2),
    machine={"torch": "2.14.1"},
)
BEST = {
    "optimizer": "sgd", "config": {"lr": 0.1, "nesterov": True}, "objective": "validation accuracy", "score": 0.98,
    "trial": 3, "trials": 8, "epochs": 3, "gradient_work": 3600.0, "seed": 0, "versions": {"torch": "2.14.1"},
    "commit": None,
}  # fmt: skip


class Reader(NamedTuple):
    """A reader of files."""

    examples: Sequence[bytes]  # valid files
    mutate: Mutation
    read: Callable[[Path], object]
    name: str  # of the file
    names_file: bool = True  # whether messages name it; a reader of bytes does not know it


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def safetensors() -> bytes:
    from safetensors.torch import save

    return save(MODEL.state_dict())


def read_checkpoint(path: Path) -> object:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    return load_weights(model, read_weights(path, model), str(path))


def read_study(path: Path) -> object:
    files = StudyFiles(path.parent, "mine")
    files.folder.mkdir(parents=True, exist_ok=True)
    path.replace(files.specification)
    return read_recorded(files)


def study_file() -> bytes:
    """Return a specification as a study writes it."""
    with tempfile.TemporaryDirectory() as folder:
        files = StudyFiles(Path(folder), "mine")
        spaces = {"sgd": to_form(load_space("sgd", Path()))}
        facts = {"spaces": spaces, "sources": {}, "versions": {"torch": "2"}, "tracking": ""}
        write_recorded(files, RecordedStudy(Specification.from_keys({}), facts, ("tuning",)))
        content = json.loads(files.specification.read_bytes())
    content.pop("checksum", None)  # by which all damage would be found
    return json.dumps(content).encode()


def read_own_preset(path: Path) -> object:
    presets = path.parent / "tuning" / "presets"
    presets.mkdir(parents=True, exist_ok=True)
    path.replace(presets / path.name)
    return read_preset(path.stem, path.parent)


def json_reader(kind: Any, content: object, name: str) -> Reader:
    """Return the reader of a record in JSON."""
    return Reader(
        [json.dumps(content).encode()],
        mixed(mutations.change_json),
        lambda path: from_json(kind, path.read_bytes(), str(path)),
        name,
    )


def npz_reader(record: Any, example: Any) -> Reader:
    """Return the reader of a record of arrays."""
    return Reader(
        [example.to_bytes()],
        mixed(mutations.change_npz),
        lambda path: record.from_bytes(path.read_bytes(), str(path)),
        "arrays.npz",
    )


def read_report(other: str) -> Callable[[Path], object]:
    """Return the reader of one file of an archive whose other file is as it should be."""

    def read(path: Path) -> object:
        (path.parent / other).write_bytes(ARCHIVE[other])
        return read_archive(path.parent)

    return read


def readers() -> Mapping[str, Reader]:
    """Return all readers, with examples of their files."""
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)])
    spaces = [path.read_bytes() for path in find_spaces(Path()).values()]
    preset = b'trials = 8\nmargin = 0.01\noptimizers = ["sgd"]\nsamples = "all"\ndeterministic = false\nmodel = "x"\n'
    checkpoints = [saved(MODEL.state_dict()), saved(MODEL.state_dict(), _use_new_zipfile_serialization=False)]
    return {
        "space": Reader(spaces, mixed(mutations.change_toml), parse_space, "mine.toml"),
        "preset": Reader([preset], mixed(mutations.change_toml), read_own_preset, "mine.toml"),
        "IDX": Reader([idx], mixed(mutations.change_idx), lambda path: parse_idx(path.read_bytes()), "x", False),
        "IDX, gzipped": Reader(
            [gzip.compress(idx, mtime=0)],
            mutations.damage,
            lambda path: parse_idx(gunzip(path.read_bytes())),
            "x.gz",
            False,
        ),
        "indices": Reader(
            [b"0\n1\n2\n299\n"], mixed(mutations.change_lines), lambda path: read_indices(path, 300), "i.txt"
        ),
        "checkpoint": Reader(checkpoints, mixed(mutations.change_checkpoint), read_checkpoint, "weights.pt"),
        "safetensors": Reader([safetensors()], mixed(mutations.change_safetensors), read_checkpoint, "w.safetensors"),
        "rung": json_reader(Rung, to_form(RUNG), "0002.json"),
        "analysis.npz": npz_reader(CurvatureResult, ONE.curvature),
        "eigen.npz": npz_reader(EigenTrace, ONE.trace),
        "predictions.npz": npz_reader(Predictions, ONE.predictions),
        "search.json": Reader(
            [json.dumps(search_result("sgd").to_form()).encode()],
            mixed(mutations.change_json),
            lambda path: read_search(from_json(dict[str, Any], path.read_bytes(), str(path)), str(path)),
            "search.json",
        ),
        "plan.json": json_reader(Plan, to_form(ONE.plan), "plan.json"),
        "epochs.json": json_reader(tuple[EpochRecord, ...], to_form(ONE.epochs), "epochs.json"),
        "runs.json": Reader([ARCHIVE[RUNS]], mixed(mutations.change_json), read_report(PREDICTIONS), RUNS),
        "predictions of a report": Reader(
            [ARCHIVE[PREDICTIONS]], mixed(mutations.change_npz), read_report(RUNS), PREDICTIONS
        ),
        "best": Reader([json.dumps(BEST).encode()], mixed(mutations.change_json), read_best_file, "sgd.json"),
        "specification.json": Reader([study_file()], mixed(mutations.change_json), read_study, "specification.json"),
    }  # fmt: skip


NAMES = tuple(readers())


class Watch(importlib.abc.MetaPathFinder):
    """Counts what is imported by a name of an input."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def find_spec(self, fullname: str, path: object, target: types.ModuleType | None = None) -> None:
        """Find nothing, and note the name."""
        if "evil" in fullname:
            self.found.append(fullname)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """A folder with a module that the inputs name, which writes a file if it is imported."""
    (tmp_path / "evil.py").write_text(mutations.EVIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    watch = Watch()
    sys.meta_path.insert(0, watch)
    yield watch
    sys.meta_path.remove(watch)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Have the process fail to allocate what no valid file needs."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@dataclass
class Counts:
    """What became of the inputs."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    tracebacks: int = 0
    unclear: int = 0  # messages of several lines, or without the file
    imports: int = 0


def fuzz(name: str, seed: int, count: int, watch: Watch, folder: Path) -> tuple[Counts, list[str]]:
    """Have a reader read damaged files; return the counts, and what went wrong with the first of them."""
    reader, counts, faults = readers()[name], Counts(), []
    path = folder / "inputs" / reader.name
    path.parent.mkdir()
    for number, data in enumerate(mutations.inputs(reader.examples, reader.mutate, seed, count)):
        path.write_bytes(data)
        counts.inputs += 1
        fault = ""
        try:
            reader.read(path)
            counts.accepted += 1
        except (OptstudyError, ValueError) as error:
            counts.refused += 1
            if reader.names_file and not isinstance(error, OptstudyError):
                counts.tracebacks += 1
                fault = repr(error)
            elif len(str(error).splitlines()) != 1 or (reader.names_file and path.name not in str(error)):
                counts.unclear += 1
                fault = f"unclear: {error}"
        except Exception as error:  # noqa: BLE001  # what the campaign looks for
            counts.tracebacks += 1
            fault = repr(error)
        if watch.found or (folder / mutations.MARKER).exists():
            counts.imports += 1
            fault = f"ran: {watch.found}"
            watch.found.clear()
            (folder / mutations.MARKER).unlink(missing_ok=True)
        if fault:
            faults.append(f"input {number} of seed {seed}, {data[:60]!r}: {fault[:300]}")
    return counts, faults[:5]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(1 + n, marks=pytest.mark.campaign) for n in range(PARTS))]
)
def test_a_damaged_file_is_read_or_refused_in_one_line_and_runs_nothing(
    name: str,
    seed: int,
    watch: Watch,
    tmp_path: Path,
    count: Callable[[str, str, Mapping[str, int]], None],
) -> None:
    inputs = -(-ALL // (PARTS * len(NAMES))) if seed else FEW
    with bounded_memory():
        counts, faults = fuzz(name, seed, inputs, watch, tmp_path)

    if seed:
        count("reader", name, vars(counts))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_themselves_are_read(name: str, watch: Watch, tmp_path: Path) -> None:
    reader = readers()[name]
    for example in reader.examples:
        (tmp_path / reader.name).write_bytes(example)

        reader.read(tmp_path / reader.name)

    assert watch.found == []
