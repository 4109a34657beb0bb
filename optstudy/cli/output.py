"""Print results on standard output, and the next command on standard error."""

import json
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from optstudy.cli.echo import echo
from optstudy.cli.progress import show_estimate
from optstudy.comparison.table import Comparison
from optstudy.errors import UnwrittenError
from optstudy.records.io import writing
from optstudy.records.location import Location, workspace_option
from optstudy.records.printable import printable
from optstudy.records.space import Choice, Range, Space
from optstudy.report.tables.formats import build_tables, render
from optstudy.report.tables.sources import SHOWN
from optstudy.report.tables.table import (
    UNKNOWN,
    Column,
    count_label,
    number_column,
    reasons_label,
    text_column,
)
from optstudy.report.tables.tuning import score_label, value_label

if TYPE_CHECKING:
    from optstudy.study.driver import Study
    from optstudy.study.estimate import StudyEstimate
    from optstudy.study.removal import Removal
    from optstudy.study.status import OptimizerStatus


def show_comparison(
    comparison: Comparison, *, as_json: bool = False, form: str = "table", metric: str = "accuracy"
) -> None:
    """Print a comparison."""
    if form == "table" and not as_json:
        for table in build_tables(comparison, metric):  # type: ignore[arg-type]  # click checked it
            print_table(table.columns)
            echo(table.caption)
    else:
        click.echo(_formatted(comparison, as_json=as_json, form=form, metric=metric), nl=False)


def write_comparison(comparison: Comparison, path: Path, *, as_json: bool, form: str, metric: str) -> None:
    """Write the output of `show_comparison` to a new file; a terminal table is written as Markdown.

    Raises:
        OptstudyError: If it cannot be written.
    """
    form = "markdown" if form == "table" else form
    text = _formatted(comparison, as_json=as_json, form=form, metric=metric)
    with writing(path):
        file = path.open("x", encoding="utf-8")
    try:
        with writing(path), file:
            file.write(text)
    except UnwrittenError:
        path.unlink(missing_ok=True)
        raise
    echo(f"Saved to {path}", err=True)


def _formatted(comparison: Comparison, *, as_json: bool, form: str, metric: str) -> str:
    if as_json:
        return json.dumps(comparison.to_dict(), indent=2) + "\n"
    return render(comparison, form, metric)  # type: ignore[arg-type]  # click checked them


def show_best(study: "Study", optimizers: Sequence[str], *, as_json: bool) -> None:
    """Print the configurations that the searches selected."""
    from optstudy.study.tuning.best import read_best_file

    bests = {name: read_best_file(study.files.best(name)).content for name in optimizers}
    if as_json:
        click.echo(json.dumps(bests, indent=2))
        return
    objective = study.specification.tuning.objective
    scores = (score_label(best["score"], objective) for best in bests.values())
    configs = (
        ", ".join(f"{key} {value_label(value)}" for key, value in best["config"].items())
        for best in bests.values()
    )
    print_table(
        [
            text_column("Optimizer", bests),
            number_column(f"Validation {objective}", scores),
            number_column("Trial", (f"{best['trial']} of {best['trials']}" for best in bests.values())),
            number_column("Gradient work", (f"{best['gradient_work']:,.0f}" for best in bests.values())),
            text_column("Configuration", configs),
        ]
    )
    counts = {best["trials"] for best in bests.values()}
    if len(counts) > 1:
        echo(
            "The optimizers have different numbers of trials; tune them all with the same --trials to compare."
        )
    echo(f"Saved to {study.files.best(optimizers[0]).parent}")


def show_plan(study: "Study", estimate: "StudyEstimate", *, as_json: bool) -> None:
    """Print the keys and the estimate of a study."""
    keys = study.specification.to_keys()
    if as_json:
        content: dict[str, Any] = {
            "study": study.name,
            "specification": keys,
            "hours": estimate.seconds / 3600,
            "disk_bytes": estimate.disk_bytes,
            "jobs": estimate.jobs,
            "rehearsals": _rehearsals(estimate),
        }
        click.echo(json.dumps(content, indent=2))
        return
    print_table([text_column("Key", keys), text_column("Value", map(_format_value, keys.values()))])
    _print_proofs(estimate)
    show_estimate(estimate, Console(highlight=False))


def show_rehearsals(estimate: "StudyEstimate", *, as_json: bool) -> None:
    """Print what the rehearsals of a study proved."""
    if as_json:
        click.echo(json.dumps(_rehearsals(estimate), indent=2))
    else:
        _print_proofs(estimate)


def _print_proofs(estimate: "StudyEstimate") -> None:
    for name, rehearsal in estimate.rehearsals.items():
        echo(f"{name}: proved in {rehearsal.seconds:.1f} s")
        for proof in rehearsal.proofs:
            echo(f"  - {proof}")


def _rehearsals(estimate: "StudyEstimate") -> dict[str, Any]:
    return {
        name: {
            "proved": list(rehearsal.proofs),
            "seconds": rehearsal.seconds,
            "parameters": rehearsal.parameters,
            "step_seconds": rehearsal.step_seconds,
        }
        for name, rehearsal in estimate.rehearsals.items()
    }


def show_spaces(spaces: Sequence[Space]) -> None:
    """Print the optimizers that have a space file."""
    print_table(
        [
            text_column("Optimizer", (space.name for space in spaces)),
            text_column("Class", (space.optimizer for space in spaces)),
            text_column("Searched", (", ".join(item.name for item in space.search) for space in spaces)),
            text_column("File", (str(space.source) for space in spaces)),
        ]
    )


def show_space(space: Space, *, as_json: bool) -> None:
    """Print the search space of an optimizer."""
    default, paper = space.config("default"), space.config("paper") if space.paper is not None else {}
    if as_json:
        content = {
            "name": space.name,
            "optimizer": space.optimizer,
            "fixed": space.fixed,
            "search": {item.name: {"values": str(item), "why": item.why} for item in space.search},
            "default": default,
            "paper": paper or None,
        }
        click.echo(json.dumps(content, indent=2))
        return
    echo(f"{space.name}: {space.optimizer}")
    if space.fixed:
        echo("fixed: " + ", ".join(f"{name} {value_label(value)}" for name, value in space.fixed.items()))
    names = [item.name for item in space.search]
    print_table(
        [
            text_column("Hyperparameter", names),
            text_column("Searched", map(_range, space.search)),
            text_column("Default", (value_label(default[name]) for name in names)),
            text_column("Paper", (value_label(paper[name]) if paper else UNKNOWN for name in names)),
            text_column("Why", (item.why for item in space.search)),
        ]
    )
    echo(f"From {space.source}")


def show_statuses(statuses: Sequence["OptimizerStatus"]) -> None:
    """Print the progress of studies."""
    print_table(
        [
            text_column("Study", (status.study for status in statuses)),
            text_column("Optimizer", (status.optimizer for status in statuses)),
            number_column("Trials", map(_trials, statuses)),
            number_column("Final runs", (_progress(status.runs, status.runs_asked) for status in statuses)),
        ]
    )
    for status in statuses:
        for what, noun, reasons in (
            ("failed", "trial", status.failed_trials),
            ("failed", "final run", status.failed_runs),
            ("damaged", "final run", status.damaged_runs),
            ("without curvature at their end", "final run", status.missing_curvature),
            ("without the trace of their last steps", "final run", status.missing_trace),
        ):
            if reasons:
                echo(f"{status.study}, {status.optimizer}, {what}: {reasons_label(noun, reasons)}")
    accepted = {(s.study, file): hashes for s in statuses for file, hashes in s.accepted_sources.items()}
    for (study, file), hashes in accepted.items():
        *older, newest = (digest[:SHOWN] for digest in hashes)
        echo(f"{study}, accepted change of {file}: {', '.join(older)} before, {newest} now")


def show_removal(content: "Removal", *, err: bool = False) -> None:
    """Print what goes when a study is removed, on standard error if ``err``."""
    rows = [
        *(
            (f"experiment {found.name}", count_label("run", [found.runs]), "")
            for found in content.experiments
        ),
        *(
            (str(folder.path), count_label("file", [folder.files]), _size(folder.size))
            for folder in content.folders
        ),
    ]
    print_table(
        [
            text_column("To remove", (name for name, _, _ in rows)),
            number_column("Contents", (contents for _, contents, _ in rows)),
            number_column("Size", (size for _, _, size in rows)),
        ],
        err=err,
    )
    for folder in content.kept:
        echo(f"{folder} is kept; --best removes it, too.", err=err)


def removal_summary(content: "Removal") -> str:
    """Return what goes when a study is removed, in a few words."""
    runs, files = count_label("run", [content.runs]), sum(folder.files for folder in content.folders)
    size = _size(sum(folder.size for folder in content.folders))
    return f"study {content.study!r} with {runs} and {count_label('file', [files])} ({size})"


def removal_as_json(content: "Removal") -> dict[str, Any]:
    """Return what went when a study was removed, as plain values."""
    return {
        "study": content.study,
        "experiments": [{"name": found.name, "runs": found.runs} for found in content.experiments],
        "folders": [
            {"path": str(folder.path), "files": folder.files, "bytes": folder.size}
            for folder in content.folders
        ],
        "kept": [str(folder) for folder in content.kept],
    }


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _trials(status: "OptimizerStatus") -> str:
    progress = _progress(status.trials, status.trials_asked)
    return progress if status.distinct == status.trials else f"{progress} ({status.distinct} distinct)"


def _progress(done: int, planned: int) -> str:
    return f"{done} of {planned}" if planned or done else UNKNOWN


def update_moved_workspace(location: Location) -> None:
    """Update the artifact paths of a workspace that was moved, and notify the user."""
    from optstudy.tracking.embedded import update_moved_paths

    notice = update_moved_paths(location.workspace)
    if notice is not None:
        echo(f"note: {notice}", err=True)


def show_links(links: Sequence[tuple[str, str]]) -> None:
    """Print links to MLflow's pages."""
    for text, link in links:
        echo(f"{text}: {link}")


def next_step(
    command: str,
    location: Location,
    *,
    study: str | None = None,
    optimizers: Sequence[str] = (),
    quiet: bool = False,
) -> None:
    """Print the next command, with the options that it needs."""
    if quiet:
        return
    words = [command]
    for name in optimizers:
        words += ["--opt", shlex.quote(name)]
    if study is not None:
        words += ["--study", shlex.quote(study)]
    words[-1] += workspace_option(location.workspace)
    if location.tracking_uri is not None:
        from optstudy import tracking

        words += ["--tracking-uri", shlex.quote(tracking.hide_credentials(location.tracking_uri))]
    echo(f"next: {' '.join(words)}", err=True)


def print_table(columns: Sequence[Column], *, err: bool = False) -> None:
    """Print a table on standard output, or on standard error."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column.header), justify=column.side, overflow="fold")
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(
            *(Text(printable(cell)) for cell in row)
        )  # a cell may hold brackets, which are no markup
    # Lines in a file or pipe need no wrapping at the terminal's width.
    width = None if os.isatty(2 if err else 1) else 200
    Console(width=width, highlight=False, stderr=err).print(table)


def _range(item: Range | Choice) -> str:
    if isinstance(item, Range) and item.log:
        return f"{item}, evenly in log({'1 - ' * item.complement}{item.name})"
    return str(item)


def _format_value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
