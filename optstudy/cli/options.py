"""Options shared by commands."""

import functools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from optstudy.errors import UsageError
from optstudy.execution.pool import WorkerPool
from optstudy.records.location import Location
from optstudy.study.keys import KEYS, OBJECTIVES, PRUNERS, SAMPLERS
from optstudy.study.presets import parse_setting

if TYPE_CHECKING:
    from optstudy.study.driver import Study

Command = Callable[..., Any]
_SHOWN = 100  # characters of a path in a message


class CountOrAll(click.ParamType[int | str]):
    """A whole number, or `all`."""

    name = "N|all"

    def __init__(self, least: int = 0) -> None:
        self.least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number or ``all``."""
        if str(value).lower() == "all":
            return "all"
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a whole number nor all.", param, ctx)
        return click.IntRange(self.least).convert(number, param, ctx)


class SystemPath(click.Path):
    """A path that the system can look up: neither too long nor a loop of links; a file is no pipe and no device."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, which need not exist."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return path
        except (OSError, ValueError) as error:  # ValueError: a null character
            reason = getattr(error, "strerror", None) or error
            self.fail(f"{str(path)[:_SHOWN]!r} cannot be looked up ({reason}); give another.", param, ctx)
        if not (self.dir_okay if stat.S_ISDIR(mode) else self.file_okay and stat.S_ISREG(mode)):
            expected = " or ".join(["file"] * self.file_okay + ["folder"] * self.dir_okay)
            self.fail(f"{str(path)!r} is no {expected}; give another.", param, ctx)
        return path


class CommaSeparated(click.ParamType[tuple[Any, ...]]):
    """Values separated by commas."""

    name = "A,B"

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        """Return the values without duplicates."""
        if isinstance(value, tuple):
            return value
        parts = (self.kind.convert(part.strip(), param, ctx) for part in value.split(","))
        return tuple(dict.fromkeys(parts))


study = click.option("--study", metavar="NAME", help="The study; by default `main`.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
studies = click.option(
    "--study",
    "studies",
    multiple=True,
    metavar="NAME",
    help="A study, by default the most recent one; repeat to show several side by side.",
)
trust = click.option(
    "--trust",
    is_flag=True,
    help="Import and run the code that a record from elsewhere names; it is listed first.",
)
accept_sources = click.option(
    "--accept-source",
    "accept_sources",
    multiple=True,
    metavar="FILE",
    help="Accept a changed source file: finished runs keep its old hash, others get the new one; may be repeated.",
)
_workspace = click.option(
    "--workspace",
    type=SystemPath(file_okay=False),
    default=Path(),
    metavar="DIR",
    help="Folder that holds tuning/ and mlruns/; by default the current one.",
)
_tracking = click.option(
    "--tracking-uri", metavar="URI", help="MLflow server; by default MLFLOW_TRACKING_URI, else the workspace."
)
_optimizers_option = click.option(
    "--opt", "optimizers", multiple=True, metavar="NAME", help="An optimizer, or `all`; may be repeated."
)
_computing_options = (
    _workspace,
    _tracking,
    click.option(
        "--jobs",
        type=click.IntRange(1),
        help="Number of workers; by default one per CPU core or visible GPU.",
    ),
    click.option(
        "--ray",
        metavar="ADDRESS",
        help="Run on a Ray cluster: HOST:PORT, or auto for the one on this machine.",
    ),
    click.option(
        "--data-dir",
        type=SystemPath(file_okay=False),
        metavar="DIR",
        help="Folder of Fashion-MNIST and CIFAR-10, which are downloaded if missing; by default data.",
    ),
    click.option("--quiet", is_flag=True, help="Print only the result."),
)
_setting_options = (
    click.option("--model", metavar="REFERENCE", help="lenet5, or your own as net.py:make."),
    click.option(
        "--dataset", metavar="REFERENCE", help="mnist, fashion-mnist, cifar10, or your own as data.py:load."
    ),
    click.option("--loss", metavar="REFERENCE", help="cross_entropy, or your own as loss.py:name."),
    click.option("--batch-size", type=click.IntRange(1), help="Mini-batch size."),
    click.option("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps."),
    click.option(
        "--deterministic",
        is_flag=True,
        default=None,
        help="Use only deterministic algorithms, also on a GPU; slower.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        help="Random seed of the validation split, the sampler and the trials.",
    ),
    click.option(
        "--set",
        "pairs",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change any key of the study; may be repeated.",
    ),
)
_tuning_options = (
    click.option("--trials", type=click.IntRange(1), help="Configurations to try for each optimizer."),
    click.option("--sampler", type=click.Choice(SAMPLERS), help="How configurations are proposed."),
    click.option("--pruner", type=click.Choice(PRUNERS), help="How unpromising trials are stopped early."),
    click.option(
        "--objective",
        type=click.Choice(OBJECTIVES),
        help="Metric that ranks trials, on the validation examples.",
    ),
)
_training_options = (
    click.option(
        "--seeds", type=click.IntRange(1), help="Runs of each configuration; 3 means seeds 0, 1, 2."
    ),
    click.option(
        "--samples",
        type=CountOrAll(),
        help="Training examples on which to measure the curvature, or `all`; 0 turns it off.",
    ),
    click.option(
        "--eigen-last",
        type=CountOrAll(),
        help="Number of last steps in which the top eigenvalues are tracked, or `all`.",
    ),
    click.option(
        "--eigen-every", type=click.IntRange(1), help="Measure the tracked eigenvalues every this many steps."
    ),
)


def reading(command: Command) -> Command:
    """Add the options of a command that only reads results; the command receives ``location``."""

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        return command(location=_location(values), **values)

    return _with_options(wrapper, (_workspace, _tracking))


def computing(command: Command) -> Command:
    """Add the options of a command that starts workers; it receives ``location``, ``worker_pool`` and ``quiet``."""

    @functools.wraps(command)
    def wrapper(**values: Any) -> Any:
        return command(location=_location(values), worker_pool=_worker_pool(values), **values)

    return _with_options(wrapper, _computing_options)


def running(*, tuning: bool = False, training: bool = False) -> Callable[[Command], Command]:
    """Add the options of a command that runs a study; the command receives ``settings``, too; see `computing`.

    ``settings`` holds the specification keys set by flags or ``--set``.
    """
    epochs = [
        click.option("--epochs", key, type=click.IntRange(1), help=text)
        for key, text, wanted in (
            ("tune_epochs", "Epochs of a trial.", tuning and not training),
            ("train_epochs", "Epochs of a run.", training and not tuning),
        )
        if wanted
    ]
    options = (
        _optimizers_option,
        *_tuning_options * tuning,
        *_training_options * training,
        *epochs,
        *_setting_options,
        *_computing_options,
    )

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*, pairs: tuple[str, ...], optimizers: tuple[str, ...], **values: Any) -> Any:
            location = _location(values)
            flags = {name: values.pop(name) for name in list(values) if name in KEYS}
            if optimizers:
                flags["optimizers"] = _names(optimizers, location.workspace)
            settings = _settings(flags, pairs)
            return command(location=location, worker_pool=_worker_pool(values), settings=settings, **values)

        return _with_options(wrapper, options)

    return decorate


def open_study(
    name: str,
    location: Location,
    worker_pool: WorkerPool,
    settings: dict[str, Any],
    preset: str | None = None,
) -> "Study":
    """Open a study with the options of a command."""
    from optstudy.study.driver import Study

    return Study(
        name,
        preset=preset,
        workspace=location.workspace,
        tracking_uri=location.tracking_uri,
        jobs=worker_pool.jobs,
        ray=worker_pool.ray,
        data_dir=worker_pool.data_dir,
        **settings,
    )


def _location(values: dict[str, Any]) -> Location:
    return Location(values.pop("workspace"), values.pop("tracking_uri"))


def _worker_pool(values: dict[str, Any]) -> WorkerPool:
    return WorkerPool(values.pop("jobs"), values.pop("data_dir"), values.pop("ray"))


def _settings(flags: dict[str, Any], pairs: tuple[str, ...]) -> dict[str, Any]:
    """Return the settings given as flags or by ``--set``.

    Raises:
        UsageError: If a key is given twice.
    """
    settings = {name: value for name, value in flags.items() if value is not None}
    for name, value in map(parse_setting, pairs):
        if name in settings:
            raise UsageError(f"--set {name}: {name} is given twice; give it once, as an option or by --set")
        settings[name] = value
    return settings


def _with_options(command: Command, options: tuple[Callable[[Command], Command], ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command


def _names(optimizers: tuple[str, ...], workspace: Path) -> tuple[str, ...]:
    from optstudy.optimizers import find_spaces

    return tuple(find_spaces(workspace)) if "all" in optimizers else optimizers
