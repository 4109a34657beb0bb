"""What `optstudy curvature` was asked, turned into measurements."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optstudy.errors import UsageError
from optstudy.execution.flows import Failure, Task, run_all
from optstudy.execution.pool import Place
from optstudy.posthoc.checkpoints import fitted
from optstudy.posthoc.find_runs import choice_of, find_runs, run_name, subject_of
from optstudy.posthoc.measure import Choice, Settings, Subject, measure_all
from optstudy.posthoc.samples import Wish, choose, count_images
from optstudy.records.curvature import Measured
from optstudy.records.location import Location
from optstudy.records.plan import Method, Plan, Split
from optstudy.report import figures
from optstudy.study.events import Notice
from optstudy.tracking import open_written

POINTS = ("start", "middle", "end")
DRAWS = 3  # samples of each size of a sweep


@dataclass(frozen=True)
class Begun:
    """How much is about to be measured."""

    measurements: int
    images: int  # of the largest sample


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
    draws: int | None = None  # samples of each size of a sweep
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
        if self.draws is not None and not self.sweep:
            raise UsageError("--draws goes with --sweep")
        if self.sweep and self.settings.analysis:
            raise UsageError("--density and --landscape go with one sample, not with --sweep")
        if self.sweep and self.settings.k == 1:
            raise UsageError("-k is 1; a sweep compares two eigenvalues, so give 2 or more")
        for point in self.at:
            if point not in POINTS:
                raise UsageError(f"--at has {point!r}; it takes {', '.join(POINTS)}")

    @property
    def wish(self) -> Wish:
        """The samples."""
        return Wish(self.samples, self.indices, self.sweep, self.draws or DRAWS)


def inquire(
    inquiry: Inquiry,
    location: Location,
    place: Place,
) -> Iterator[Measured | Notice | Begun]:
    """Measure what was asked, yielding how much it is, and each result as it comes.

    Args:
        inquiry: What to measure.
        location: Where the runs are kept.
        place: Where it is measured.

    Raises:
        UsageError: If the run, the file or the sample is not there.
        OptstudyError: If a measurement failed.
    """
    subjects, notices = _subjects(inquiry, location)
    if inquiry.device is not None:
        subjects = [_on(inquiry.device, subject) for subject in subjects]
    for device in {subject.plan.device for subject in subjects}:
        place.check(device)
    plan = subjects[0].plan
    with place.workers(
        plan.device, plan.threads, deterministic=plan.deterministic, references=plan.references
    ) as workers:
        [total] = run_all([Task(count_images, (plan,))], workers)
        choices, said = choose(inquiry.wish, choice_of(plan), total)
        notices += [said] if said else []
        if inquiry.checkpoint is not None:
            [(weights, said)] = run_all([Task(fitted, (plan, inquiry.checkpoint))], workers)
            subjects = [dataclasses.replace(subjects[0], weights=weights)]
            notices += [said] if said else []
        yield from map(Notice, notices)
        yield Begun(len(subjects) * len(choices), max(_size(choice, total) for choice in choices))
        for result in measure_all(subjects, choices, inquiry.settings, workers):
            if isinstance(result, Failure):
                raise result.error()
            yield result


def _size(choice: Choice, total: int) -> int:
    return len(choice.indices) if choice.indices is not None else choice.count or total


def draw_measured(
    found: Sequence[Measured], *, density: bool, landscape: bool, sweep: bool
) -> dict[str, bytes]:
    """Return figures and data by name; where several things were measured, each name says which."""
    files: dict[str, bytes] = {}
    points = {one.at for one in found}
    for one in found:
        analysis, optimizer = one.analysis, one.optimizer
        if analysis is None:
            continue
        prefix = "" if len(found) == 1 else one.name.replace("/", "-") + "-"
        prefix += f"{one.at}-" if len(points) > 1 else ""
        title = one.name if one.at == "end" else f"{one.name}, {one.at}"
        files[f"{prefix}analysis.npz"] = analysis.to_bytes()
        if density:
            files[f"{prefix}spectrum.png"] = figures.png(figures.spectrum(analysis, title, optimizer))
        if landscape:
            line = figures.landscape_line(analysis, title, optimizer)
            files[f"{prefix}landscape_1d.png"] = figures.png(line)
            files[f"{prefix}landscape_2d.png"] = figures.png(figures.landscape_plane(analysis, title))
    if sweep:
        files["sweep.png"] = figures.png(figures.sample_sweep(found))
    return files


def _subjects(inquiry: Inquiry, location: Location) -> tuple[list[Subject], list[str]]:
    """Return what is to be measured, a checkpoint without its weights, and notices about what is not."""
    if inquiry.checkpoint is not None:
        return [Subject(str(inquiry.checkpoint), _plan(inquiry), None)], []
    assert inquiry.target is not None
    tracking = open_written(location)
    runs = find_runs(tracking, inquiry.target)
    pairs = [(run, at) for run in runs for at in inquiry.at]
    lost = [pair for pair in pairs if pair[0].outcome == "diverged" and pair[1] != "start"]
    texts = [f"{run.study}/{run_name(run)} diverged, and has no curvature at its {at}" for run, at in lost]
    if len(lost) == len(pairs):
        raise UsageError(f"{texts[0]}; --at start measures where it began")
    return [subject_of(tracking, *pair) for pair in pairs if pair not in lost], texts


def _on(device: str, subject: Subject) -> Subject:
    return dataclasses.replace(subject, plan=dataclasses.replace(subject.plan, device=device))


def _plan(inquiry: Inquiry) -> Plan:
    """Describe a checkpoint's model and data as if a run had led to it."""
    return Plan(
        dataset=inquiry.dataset or "mnist",
        split=Split("final"),
        model=inquiry.model or "lenet5",
        loss=inquiry.loss or "cross_entropy",
        method=Method("torch.optim.SGD", {"lr": 0.0}),
        epochs=0,
        sweep_epochs=(),
        batch_size=100,
        seed=0,
    )
