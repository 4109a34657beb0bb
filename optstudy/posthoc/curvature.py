"""Carry out a curvature request: find the runs, choose the samples, measure, and draw the results."""

import dataclasses
from collections.abc import Iterator, Sequence

from optstudy.errors import UsageError
from optstudy.execution.flows import Task, run_all
from optstudy.execution.pool import WorkerPool
from optstudy.posthoc.checkpoints import fit_checkpoint
from optstudy.posthoc.find_runs import find_runs, read_subject
from optstudy.posthoc.measure import Subject, measure_all
from optstudy.posthoc.request import CurvatureRequest
from optstudy.posthoc.samples import choose_samples, count_images, default_sample
from optstudy.posthoc.trust import ForeignCode, check_kinds, check_trust, code_in_mlflow
from optstudy.records.curvature import CurvatureResult
from optstudy.records.evidence import unchecked_notice
from optstudy.records.location import Location
from optstudy.records.look import Looks
from optstudy.records.plan import Method, Plan, Split
from optstudy.report import figures
from optstudy.study.events import Notice
from optstudy.tracking import open_existing
from optstudy.training.curvature import CurvatureProgress


def measure_request(
    request: CurvatureRequest, location: Location, worker_pool: WorkerPool
) -> Iterator[Notice | list[int] | CurvatureProgress | CurvatureResult]:
    """Carry out a curvature request.

    Yields:
        Notices, first of all of code that runs on a server name, before it is imported; then the number of images of
        each measurement; then their progress, and each result as it is completed.

    Raises:
        UsageError: If the run, the file or the sample does not exist, or code that is not trusted would be imported.
        OptstudyError: If a measurement fails.
    """
    subjects, notices, codes = _subjects(request, location)
    listing = check_trust(codes, trust=request.trust)
    yield from map(Notice, listing.lines)
    if request.device is not None:
        subjects = [subject.on(request.device) for subject in subjects]
    for device in {subject.plan.device for subject in subjects}:
        worker_pool.check(device)
    plan = subjects[0].plan
    with worker_pool.workers(
        plan.device,
        plan.threads,
        deterministic=plan.deterministic,
        references=plan.references,
        listed=listing.files,
    ) as workers:
        for references in dict.fromkeys(tuple(code.references.items()) for code in codes if code.references):
            run_all([Task(check_kinds, (dict(references),))], workers)
        [total] = run_all([Task(count_images, (plan,))], workers)
        samples, notice = choose_samples(request, default_sample(plan), total)
        notices += [notice] if notice else []
        if request.checkpoint is not None:
            [(weights, notice)] = run_all([Task(fit_checkpoint, (plan, request.checkpoint))], workers)
            subjects = [dataclasses.replace(subjects[0], weights=weights)]
            notices += [notice] if notice else []
        yield from map(Notice, notices)
        yield [sample.size(total) for sample in samples] * len(subjects)
        yield from measure_all(subjects, samples, request, workers)


def draw_results(
    results: Sequence[CurvatureResult], request: CurvatureRequest, looks: Looks
) -> dict[str, bytes]:
    """Return figures and data by file name; with several results, each name includes the run and stage."""
    if request.sweep:
        return {"sweep.png": figures.png(figures.sample_sweep(results, looks))}
    files: dict[str, bytes] = {}
    points = {result.at for result in results}
    for result in results if request.density or request.landscape else ():
        prefix = "" if len(results) == 1 else result.run.replace("/", "-") + "-"
        prefix += f"{result.at}-" if len(points) > 1 else ""
        title = result.run if result.at == "end" else f"{result.run}, {result.at}"
        files[f"{prefix}analysis.npz"] = result.to_bytes()
        if request.density:
            files[f"{prefix}spectrum.png"] = figures.png(
                figures.spectrum(result, title, looks[result.optimizer])
            )
        if request.landscape:
            line = figures.landscape_line(result, title, looks[result.optimizer])
            files[f"{prefix}landscape_1d.png"] = figures.png(line)
            files[f"{prefix}landscape_2d.png"] = figures.png(figures.landscape_plane(result, title))
    return files


def _subjects(
    request: CurvatureRequest, location: Location
) -> tuple[list[Subject], list[str], list[ForeignCode]]:
    """Return the subjects to measure, notices about excluded runs, and the code that the records of runs name.

    A checkpoint's weights are read later, and its code is named by the request.
    """
    if request.checkpoint is not None:
        return [Subject(str(request.checkpoint), _plan(request), None)], [], []
    assert request.target is not None
    tracking = open_existing(location)
    runs = find_runs(tracking, request.target)
    pairs = [(run, at) for run in runs for at in request.at]
    diverged = [pair for pair in pairs if pair[0].outcome == "diverged" and pair[1] != "start"]
    notices = [f"{run.id} diverged, and has no curvature at its {at}" for run, at in diverged]
    if len(diverged) == len(pairs):
        raise UsageError(f"{notices[0]}; --at start measures the initial weights")
    notices += filter(None, [unchecked_notice(sum(run.checksums is None for run in runs))])
    measured = [pair for pair in pairs if pair not in diverged]
    subjects = [read_subject(tracking, *pair) for pair in measured]
    codes = [
        code_in_mlflow(tracking, run, subject.plan, location.workspace)
        for (run, _), subject in zip(measured, subjects, strict=True)
    ]
    return subjects, notices, codes


def _plan(request: CurvatureRequest) -> Plan:
    """Return the plan of a fictitious run with a checkpoint's model and data."""
    return Plan(
        dataset=request.dataset or "mnist",
        split=Split("final"),
        model=request.model or "lenet5",
        loss=request.loss or "cross_entropy",
        method=Method("torch.optim.SGD", {"lr": 0.0}),
        epochs=0,
        sweep_epochs=(),
        batch_size=100,
        seed=0,
    )
