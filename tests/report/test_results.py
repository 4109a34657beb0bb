"""docs/RESULTS.md agrees with the committed runs: its tables are rebuilt from docs/results."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from optstudy.comparison.table import compare
from optstudy.report.archive import read_archive
from optstudy.report.tables.formats import render

ROOT = Path(__file__).parents[2]
README, PAGE = ROOT / "README.md", ROOT / "docs" / "RESULTS.md"
RUNS = ROOT / "docs" / "results"


def shown(start: str, page: Path) -> Iterator[tuple[str, str]]:
    """Yield each command of the page that starts so, and the text from there to the next section."""
    for block in re.finditer(
        r"```console\n\$ (.*?)\n```\n\n(.*?)(?=\n```|\n#|\Z)", page.read_text(), re.DOTALL
    ):
        if block[1].startswith(start):
            yield block[1], block[2]


def options(command: str, name: str) -> list[str]:
    words = shlex.split(command)
    return [words[place + 1] for place, word in enumerate(words) if word == name]


@pytest.mark.parametrize(
    ("command", "text"),
    [
        *shown("optstudy compare --study mnist", page=PAGE),
        *shown("optstudy compare --study mnist", page=README),
    ],
)
def test_every_table_is_what_its_command_prints_from_the_committed_runs(command: str, text: str) -> None:
    studies = options(command, "--study")
    comparison = compare(read_archive(RUNS).of_studies(studies))
    [metric] = options(command, "--metric") or ["accuracy"]

    assert render(comparison, "markdown", metric).strip() in text  # type: ignore[arg-type]  # a word of the page


@pytest.mark.parametrize(("command", "text"), [*shown("python benchmarks/variances.py", PAGE)])
def test_the_table_of_variances_is_what_its_program_prints(command: str, text: str) -> None:
    done = subprocess.run(
        [sys.executable, *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() in text


def test_every_run_can_be_repeated_from_its_plan_versions_and_data() -> None:
    for one in read_archive(RUNS).runs:
        assert {"torch", "python", "commit", "tree", "data", "processor"} <= set(one.run.provenance.details)
        assert one.plan is not None
        assert one.plan.seed == one.run.seed


def test_a_runs_predictions_have_the_accuracy_that_it_logged() -> None:
    for one in read_archive(RUNS).runs:
        assert one.predictions is not None
        assert one.predictions.correct.mean() == pytest.approx(one.run.test_accuracy, abs=1e-12)
