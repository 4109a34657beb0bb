"""Options that commands share."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from optstudy.specification import OBJECTIVES, PRUNERS, SAMPLERS, parse_setting

F = TypeVar("F", bound=Callable[..., Any])

study = click.option("--study", metavar="NAME", help="The study; `main` where none is named.")
optimizers = click.option(
    "--opt", "optimizers", multiple=True, metavar="NAME", help="An optimizer, or `all`. May be repeated."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
workspace = click.option(
    "--workspace",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder that holds tuning/ and mlruns/; by default here.",
)
tracking = click.option(
    "--tracking-uri", metavar="URI", help="MLflow server; by default MLFLOW_TRACKING_URI, else the workspace."
)


def running(command: F) -> F:
    """Options that say where a study runs."""
    for option in (
        click.option("--quiet", is_flag=True, help="Print the result only."),
        click.option(
            "--data-dir",
            type=click.Path(file_okay=False, path_type=Path),
            metavar="DIR",
            help="Folder of Fashion-MNIST and CIFAR-10; downloaded there where absent. [default: data]",
        ),
        click.option("--jobs", type=click.IntRange(1), help="Workers; by default one a core or a visible GPU."),
        tracking,
        workspace,
    ):
        command = option(command)
    return command


def described(command: F) -> F:
    """Options that say what a study is made of."""
    for option in (
        click.option(
            "--set",
            "settings",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change a key of the preset. May be repeated.",
        ),
        click.option("--seed", type=click.IntRange(0), help="Of the split, the sampler and the trials."),
        click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps."),
        click.option("--batch-size", type=click.IntRange(1), help="Images of a mini-batch."),
        click.option("--loss", metavar="REFERENCE", help="cross_entropy, or your own as loss.py:name."),
        click.option("--dataset", metavar="REFERENCE", help="mnist, fashion-mnist, cifar10, or data.py:load."),
        click.option("--model", metavar="REFERENCE", help="lenet5, or your own as net.py:make."),
    ):
        command = option(command)
    return command


def tuned(command: F) -> F:
    """Options of a search."""
    for option in (
        click.option("--objective", type=click.Choice(OBJECTIVES), help="What of the validation images."),
        click.option("--pruner", type=click.Choice(PRUNERS), help="How trials are given up early."),
        click.option("--sampler", type=click.Choice(SAMPLERS), help="How configurations are proposed."),
        click.option("--trials", type=click.IntRange(1), help="Configurations to try for each optimizer."),
    ):
        command = option(command)
    return command


def settings_of(pairs: Sequence[str], **flags: Any) -> dict[str, Any]:
    """Settings given as ``--set`` pairs and as flags; flags that were not given are None."""
    return dict(parse_setting(pair) for pair in pairs) | {k: v for k, v in flags.items() if v is not None}


def names_of(optimizers: Sequence[str], workspace: Path) -> tuple[str, ...] | None:
    """The optimizers that were asked for; None if none was named."""
    from optstudy.optimizers import find_spaces

    if not optimizers:
        return None
    return tuple(find_spaces(workspace)) if "all" in optimizers else tuple(optimizers)
