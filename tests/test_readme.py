"""The README shows what works: its files run, its command lines are understood, no command is forgotten."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
import tiny

from optstudy.cli.main import COMMANDS, group
from optstudy.optimizers import find_spaces, load_space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# What stands behind the language of a fenced block is the name of a file.
FILES: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL))
LINES = sorted(set(re.findall(r"^\$ optstudy (.*)$", README, flags=re.MULTILINE)))
SMALL = ("tune_epochs=1", "train_epochs=1", "tune_size=400", "validation=200", "batch_size=50", "batch=2")


@pytest.fixture
def reader(empty_store: Path, tmp_path: Path) -> Path:
    """The folder of somebody who copied every file of the README."""
    folder = Path(shutil.copytree(empty_store, tmp_path / "reader"))
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_examples_are_the_files_of_the_readme() -> None:
    examples = {path.name: path.read_text() for path in (ROOT / "examples").iterdir() if path.is_file()}

    assert examples == {Path(name).name: text for name, text in FILES.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_place_in_the_readme_with_an_example(name: str) -> None:
    place = README.partition(f"\n### `optstudy {name}`\n")[2].partition("\n##")[0]

    assert re.search(rf"^\$ optstudy {name}\b", place, flags=re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_commands_help_ends_with_an_example_that_is_understood(name: str) -> None:
    command = group.get_command(click.Context(group), name)

    assert command is not None
    assert command.help is not None
    example = re.search(r"Example: optstudy (.*)$", command.help.strip())
    assert example is not None
    assert example[1].split()[0] == name
    parse(example[1])


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_of_the_readme_is_understood(line: str) -> None:
    parse(line)


def test_each_space_of_the_readme_is_found_and_read(reader: Path) -> None:
    written = {Path(name).stem for name in FILES if name.endswith(".toml")}

    assert written == {"adamax", "lion"}
    for name in written:
        assert find_spaces(reader)[name].is_relative_to(reader)
        assert load_space(name, reader).name == name


@pytest.mark.slow
def test_model_data_loss_and_optimizers_of_the_readme_run_a_study(reader: Path) -> None:
    own = ("--model", "net.py:make", "--dataset", "data.py:load", "--loss", "loss.py:smoothed")
    settings = [part for pair in SMALL for part in ("--set", pair)]
    optimizers = ("--opt", "adamax", "--opt", "lion")

    done = tiny.command(
        "study",
        "--study",
        "mine",
        *own,
        *optimizers,
        "--trials",
        "2",
        "--seeds",
        "1",
        *settings,
        folder=reader,
    )

    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if " best " in line] == ["adamax", "lion"]


@pytest.mark.slow
def test_python_example_of_the_readme_runs_as_it_stands(reader: Path) -> None:
    done = subprocess.run(
        [sys.executable, "study_script.py"], cwd=reader, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[-2:]]
    assert [(optimizer, seeds) for _, optimizer, seeds, *_ in rows] == [("sgd", "3"), ("adam", "3")]
    assert all(float(test) > 0.5 for *_, test in rows)  # guessing reaches 0.1


@pytest.mark.parametrize("name", ["curvature_script.py", "tracking_script.py"])
def test_curvature_examples_of_the_readme_run_as_they_stand(name: str, reader: Path) -> None:
    done = subprocess.run([sys.executable, name], cwd=reader, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "separated" in done.stdout


def parse(line: str) -> None:
    """Let click read a command line, without doing anything."""
    name, *arguments = shlex.split(line)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    command.make_context(name, arguments)
