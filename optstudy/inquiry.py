"""What `optstudy curvature` was asked, turned into measurements."""

import dataclasses
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from optstudy import figures
from optstudy.checkpoints import load_weights, read_weights
from optstudy.data import Split, load
from optstudy.errors import UsageError
from optstudy.events import Notice
from optstudy.execution import LocalWorkers, environments
from optstudy.finding import choice_of, find_runs, subject_of
from optstudy.flows import Failure
from optstudy.measure import Choice, Measured, Settings, Subject, measure_all
from optstudy.models import build_model
from optstudy.tracking import open_written
from optstudy.training import Method, Plan, check_device

POINTS = ("start", "middle", "end")


@dataclass(frozen=True)
class Inquiry:
    """What to measure."""

    target: str | None = None  # a study, STUDY/RUN or run ID
    checkpoint: Path | None = None  # weights in place of a run's
    model: str | None = None
    dataset: str | None = None
    loss: str | None = None
    device: str | None = None
    samples: int | str | None = None  # or "all"
    indices: Path | None = None
    sweep: tuple[int | str, ...] = ()
    draws: int = 1  # samples of each size of a sweep
    at: tuple[str, ...] = ("end",)
    settings: Settings = dataclasses.field(default_factory=Settings)

    def __post_init__(self) -> None:
        if (self.target is None) == (self.checkpoint is None):
            raise UsageError("name a run or a study, or give --checkpoint FILE; one of them")
        described = [name for name in ("model", "dataset", "loss") if getattr(self, name) is not None]
        if self.target is not None and described:
            raise UsageError(f"--{described[0]} goes with --checkpoint; a run knows its own")
        if self.checkpoint is not None and self.at != ("end",):
            raise UsageError("--at goes with runs; a checkpoint has no start or middle")
        if (self.samples is not None) + (self.indices is not None) + bool(self.sweep) > 1:
            raise UsageError("--samples, --indices and --sweep exclude each other")
        for point in self.at:
            if point not in POINTS:
                raise UsageError(f"--at has {point!r}; it takes {', '.join(POINTS)}")


def inquire(
    inquiry: Inquiry,
    workspace: Path,
    tracking_uri: str | None,
    *,
    jobs: int | None = None,
    data_dir: Path | None = None,
) -> Iterator[Measured | Notice]:
    """Measure what was asked, yielding each result as it comes.

    Args:
        inquiry: What to measure.
        workspace: Where the runs are kept.
        tracking_uri: Server that keeps them instead.
        jobs: Workers.
        data_dir: Folder of data sets that do not ship with the package.

    Raises:
        UsageError: If the run, the file or the sample is not there.
        OptstudyError: If a measurement failed.
    """
    subjects, notice = _subjects(inquiry, workspace, tracking_uri)
    if notice:
        yield Notice(notice)
    if inquiry.device is not None:
        check_device(inquiry.device)
        subjects = [
            dataclasses.replace(subject, plan=dataclasses.replace(subject.plan, device=inquiry.device))
            for subject in subjects
        ]
    plan = subjects[0].plan
    choices = _choices(inquiry, plan)
    with LocalWorkers(environments(plan.device, plan.threads, jobs, data_dir)) as workers:
        for result in measure_all(subjects, choices, inquiry.settings, workers):
            if isinstance(result, Failure):
                raise result.error()
            yield result


def draw_measured(
    found: Sequence[Measured], *, density: bool, landscape: bool, sweep: bool
) -> dict[str, bytes]:
    """Return figures and data by name; where several runs were measured, each name says which."""
    files: dict[str, bytes] = {}
    for one in found:
        analysis, optimizer = one.analysis, one.optimizer
        if analysis is None:
            continue
        prefix = "" if len(found) == 1 else one.name.replace("/", "-") + "-"
        files[f"{prefix}analysis.npz"] = analysis.to_bytes()
        if density:
            files[f"{prefix}spectrum.png"] = figures.png(figures.spectrum(analysis, one.name, optimizer))
        if landscape:
            files[f"{prefix}landscape_1d.png"] = figures.png(
                figures.landscape_line(analysis, one.name, optimizer)
            )
            files[f"{prefix}landscape_2d.png"] = figures.png(figures.landscape_plane(analysis, one.name))
    if sweep:
        files["sweep.png"] = figures.png(figures.sample_sweep(found))
    return files


def _subjects(
    inquiry: Inquiry, workspace: Path, tracking_uri: str | None
) -> tuple[list[Subject], str | None]:
    if inquiry.checkpoint is not None:
        return _from_checkpoint(inquiry, inquiry.checkpoint)
    assert inquiry.target is not None
    tracking = open_written(workspace, tracking_uri)
    runs = find_runs(tracking, inquiry.target)
    return [subject_of(tracking, run, at) for run in runs for at in inquiry.at], None


def _from_checkpoint(inquiry: Inquiry, path: Path) -> tuple[list[Subject], str | None]:
    plan = Plan(
        dataset=inquiry.dataset or "mnist",
        split=Split("final"),
        model=inquiry.model or "lenet5",
        loss=inquiry.loss or "cross_entropy",
        method=Method("torch.optim.SGD", {"lr": 0.0}),
        epochs=0,
        sweep_epochs=(),
        batch_size=100,
        seed=0,
        device=inquiry.device or "cpu",
    )
    model = build_model(plan.model, load(plan.dataset))
    notice = load_weights(model, read_weights(path), path)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return [Subject(str(path), plan, buffer.getvalue())], notice


def _choices(inquiry: Inquiry, plan: Plan) -> list[Choice]:
    own = choice_of(plan)
    if inquiry.indices is not None:
        return [Choice(None, indices=_read_indices(inquiry.indices))]
    if inquiry.samples is not None:
        return [Choice(_count(inquiry.samples), own.seed)]
    choices = []
    for size in inquiry.sweep:
        count = _count(size)
        draws = 1 if count is None else inquiry.draws
        choices += [Choice(count, own.seed + draw) for draw in range(draws)]
    return choices or [own]


def _count(size: int | str) -> int | None:
    return None if size == "all" else int(size)


def _read_indices(path: Path) -> tuple[int, ...]:
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error
    indices = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if not line.strip().isdecimal():
            raise UsageError(
                f"{path}, line {number}: {line.strip()!r} is no image; write one whole number a line"
            )
        indices.append(int(line))
    if not indices:
        raise UsageError(f"{path} names no image; write the number of one training image a line")
    if len(set(indices)) < len(indices):
        twice = next(index for index, times in Counter(indices).items() if times > 1)
        raise UsageError(f"{path} names image {twice} twice; each counts once")
    return tuple(indices)
