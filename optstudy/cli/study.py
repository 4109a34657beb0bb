"""`optstudy study`."""

from pathlib import Path
from typing import Any

import click

from optstudy.cli import options


@click.command()
@click.option("--preset", metavar="NAME", help="What the study is made of: smoke, quick, paper, or your own.")
@click.option("--study", "name", metavar="NAME", help="The study's name; by default the preset's.")
@options.optimizers
@options.tuned
@click.option("--seeds", type=click.IntRange(1), help="Final runs of each configuration.")
@options.described
@click.option("--dry-run", is_flag=True, help="Print the plan, with the hours and the disk that it needs.")
@options.running
@options.as_json
def study(
    preset: str | None,
    name: str | None,
    optimizers: tuple[str, ...],
    settings: tuple[str, ...],
    dry_run: bool,
    workspace: Path,
    tracking_uri: str | None,
    jobs: int | None,
    data_dir: Path | None,
    quiet: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Tune every optimizer, retrain the best configurations, and compare.

    Example: optstudy study --preset quick
    """
    from optstudy.cli.showing import next_step, show_comparison, show_plan
    from optstudy.cli.watching import watch
    from optstudy.study import Study
    from optstudy.workspace import StudyFiles

    name = name or preset or "quick"
    if preset is None and not StudyFiles(workspace, name).specification.exists():
        preset = "quick"
    chosen = options.names_of(optimizers, workspace)
    asked = options.settings_of(settings, optimizers=chosen, **flags)
    made = Study(
        name, preset=preset, workspace=workspace, tracking_uri=tracking_uri, jobs=jobs, data_dir=data_dir, **asked
    )
    if dry_run:
        show_plan(made, made.estimate(), as_json=as_json)
        return
    watch(made.run(), quiet=quiet)
    show_comparison(made.compare(), as_json=as_json)
    next_step("optstudy ui", workspace=workspace, tracking_uri=tracking_uri, study=name, quiet=quiet)
