"""Show a running study on standard error: a progress bar, and a line for each event."""

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from optstudy.errors import OptstudyError
from optstudy.records.printable import printable
from optstudy.records.search import SearchResult
from optstudy.report.tables.table import count_label
from optstudy.report.tables.tuning import value_label
from optstudy.study.estimate import StudyEstimate
from optstudy.study.events import (
    Event,
    Notice,
    Resumed,
    RunEnded,
    TrialEnded,
    WorkDone,
)


class Remaining(ProgressColumn):
    """Estimated remaining time, from the pace of the work that this command has done itself."""

    def render(self, task: Task) -> Text:
        """Return the time left; empty before the first work."""
        done = task.completed - task.fields.get("before", 0.0)  # by this command
        if done <= 0 or not task.total:
            return Text("")
        return Text(f"{duration((task.elapsed or 0.0) * (task.total - task.completed) / done)} left")


def watch(events: Iterable[Event], *, quiet: bool = False) -> None:
    """Show events as they arrive.

    Raises:
        OptstudyError: At the end, if there were problems.
    """
    console = Console(stderr=True, quiet=quiet, highlight=False)
    problems = 0
    with progress_bar(console) as bar:
        line = bar.add_task("starting workers", total=None, before=0.0)
        milestone = 0.25
        for event in events:
            match event:
                case StudyEstimate():
                    show_estimate(event, console)
                    bar.update(line, description="running", total=event.work_seconds * event.jobs or 1.0)
                    bar.reset(line, total=event.work_seconds * event.jobs or 1.0, description="running")
                case WorkDone():
                    task = bar.tasks[0]
                    before = task.fields["before"] + event.seconds * event.already_done
                    name = printable(f"{event.run:<24}")
                    bar.update(line, advance=event.seconds, description=name, before=before)
                    share = task.completed / task.total if task.total else 0.0
                    if share >= milestone:
                        if not console.is_terminal:  # a log file shows no bar
                            console.print(f"{100 * share:.0f} % done")
                        milestone = 0.25 * (share // 0.25 + 1)
                case TrialEnded(already_done=True):
                    pass  # the search prints one line
                case Notice(problem=True):
                    problems += 1
                    console.print(Text(printable(f"problem: {event.text}"), style="red"), soft_wrap=True)
                case _:
                    console.print(Text(printable(format_event(event))), soft_wrap=True)
    if problems:
        raise OptstudyError(f"{problems} problem{'s' * (problems > 1)}, shown above; the rest is done")


def progress_bar(console: Console) -> Progress:
    """Return a progress bar, which only a terminal shows."""
    return Progress(
        TextColumn("{task.description}", markup=False),  # a name may hold brackets
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        Remaining(),
        console=console,
        transient=True,
        disable=not console.is_terminal,  # in a log file it would leave an empty line
    )


def format_event(event: Event) -> str:
    """Return the line of an event."""
    match event:
        case Notice():
            return f"note: {event.text}"
        case Resumed():
            trials, runs = count_label("trial", [event.trials]), count_label("final run", [event.runs])
            return f"{trials} and {runs} have ended before; reading them"
        case TrialEnded():
            trial = event.trial
            score = "" if trial.score is None else f" {trial.score:.4f}"
            values = ", ".join(f"{name} {value_label(value)}" for name, value in trial.params.items())
            return f"{event.optimizer}/{trial.number:03d} {trial.state}{score} ({values})"
        case SearchResult():
            best = event.best
            assert best is not None
            values = ", ".join(f"{name} {value_label(value)}" for name, value in best.params.items())
            count = len(event.finalists)
            how = f", by other seeds of the {count} best" if count else ""
            repeated = len(event.trials) - event.distinct
            tried = (
                f" ({len(event.trials)} trials, {event.distinct} distinct configurations)" if repeated else ""
            )
            return f"{event.optimizer}: best is trial {best.number} with {values}{how}{tried}"
        case RunEnded():
            return f"{event.run} {event.outcome}: train {event.train_accuracy:.2%}, test {event.test_accuracy:.2%}"
        case _:
            return str(event)


def show_estimate(estimate: StudyEstimate, console: Console) -> None:
    """Print the planned work and its estimated time."""
    for name, rehearsal in estimate.rehearsals.items():
        line = (
            f"{name:<12} {estimate.trials} trials {duration(estimate.trial_seconds[name]):>7},"
            f" {estimate.runs} final runs {duration(estimate.run_seconds[name]):>7}"
            f"  ({1000 * rehearsal.step_seconds:.1f} ms a step)"
        )
        console.print(Text(printable(line)))
    workers = f"{estimate.jobs} worker{'s' * (estimate.jobs > 1)}"
    size = f"{estimate.disk_bytes / 1e6:.0f} MB"
    console.print(
        f"about {duration(estimate.seconds)} with {workers}, {size} of disk, if nothing is done yet"
    )


def duration(seconds: float) -> str:
    """Format a length of time in seconds, minutes or hours."""
    if seconds < 90:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    if seconds < 5400:  # noqa: PLR2004
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
