"""`optstudy curvature`."""

from pathlib import Path
from typing import Any

import click

from optstudy.cli import options
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location


@click.command()
@click.argument("target", required=False)
@click.option(
    "--checkpoint",
    type=options.SystemPath(dir_okay=False),
    metavar="FILE",
    help="Weights to measure instead of a run's: saved by torch.save(model.state_dict(), FILE), or safetensors.",
)
@click.option(
    "--model", metavar="REFERENCE", help="Model of the checkpoint: lenet5, or your own as net.py:make."
)
@click.option(
    "--dataset", metavar="REFERENCE", help="Dataset of the checkpoint: mnist, or your own as data.py:load."
)
@click.option(
    "--loss", metavar="REFERENCE", help="Loss of the checkpoint: cross_entropy, or your own as loss.py:name."
)
@click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps; by default the run's.")
@click.option(
    "--samples",
    type=options.CountOrAll(1),
    help="Training examples, or `all`; by default the run's own sample, and 100 for a checkpoint.",
)
@click.option(
    "--indices",
    type=options.SystemPath(dir_okay=False),
    metavar="FILE",
    help="A text file with the index of one training example per line, instead of --samples; one that is named more"
    " than once counts as often.",
)
@click.option(
    "--dtype",
    type=click.Choice(("float32", "float64")),
    help="Precision; by default float32, or float64 where the result needs it.",
)
@click.option(
    "-k", "k", type=click.IntRange(1, 100), default=2, show_default=True, help="Number of eigenvalues."
)
@click.option("--density", is_flag=True, help="Also estimate the trace; with --output, plot the spectrum.")
@click.option(
    "--landscape",
    is_flag=True,
    help="Also evaluate the loss along the first two eigenvectors; with --output, plot it.",
)
@click.option(
    "--sweep",
    type=options.CommaSeparated(options.CountOrAll(1)),
    default=(),
    help="Sample sizes, such as 100,1000,all, to see how much the result depends on the sample.",
)
@click.option(
    "--draws",
    type=click.IntRange(1),
    help="Samples of each size in a sweep; by default 3.",
)
@click.option(
    "--at",
    type=options.CommaSeparated(click.Choice(("start", "middle", "end"))),
    default="end",
    show_default=True,
    help="Points of the runs: any of start,middle,end.",
)
@click.option(
    "--output",
    type=options.SystemPath(file_okay=False),
    metavar="DIR",
    help="Folder for figures and data; nothing in it is overwritten.",
)
@options.trust
@options.computing
@options.as_json
def curvature(
    location: Location,
    worker_pool: WorkerPool,
    quiet: bool,
    as_json: bool,
    output: Path | None,
    **request_fields: Any,
) -> None:
    """Measure the Hessian of a run (STUDY/RUN or its ID), of a study's runs, or of a checkpoint.

    STUDY/OPTIMIZER means all of its runs; a unique prefix of an ID is enough.

    Example: optstudy curvature quick/sgd/seed-0 --samples 1000
    """
    from optstudy.cli.curvature_output import (
        RESULT,
        check_output,
        json_bytes,
        measure,
        show_results,
        show_sweep,
        write_files,
    )
    from optstudy.cli.output import next_step
    from optstudy.optimizers import read_looks
    from optstudy.posthoc.curvature import draw_results
    from optstudy.posthoc.request import CurvatureRequest

    request = CurvatureRequest(**request_fields)
    if output is not None:
        check_output(output)
    results = measure(request, location, worker_pool, quiet=quiet)
    if as_json:
        click.echo(json_bytes(results, request), nl=False)
    elif request.sweep:
        show_sweep(results)
    else:
        show_results(results)
    if output is not None:
        looks = read_looks({result.optimizer for result in results}, location.workspace)
        write_files(output, {**draw_results(results, request, looks), RESULT: json_bytes(results, request)})
    if request.checkpoint is None:
        next_step("optstudy compare", location, quiet=quiet, study=results[0].run.partition("/")[0])
