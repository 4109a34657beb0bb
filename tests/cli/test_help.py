"""Help says what a command is for, what each option does, and ends with an example."""

import subprocess
import sys

import click
import pytest
from commands import Run

import optstudy
from optstudy.cli.main import COMMANDS, group

# With the group's settings: a command keeps the help option of the first context that it meets.
PROGRAM = click.Context(group, **group.context_settings)


def command(name: str) -> click.Command:
    found = group.get_command(PROGRAM, name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_with_an_example(name: str, run: Run) -> None:
    ended = run(name, "--help")

    assert ended.status == 0
    assert f"Example: optstudy {name}" in ended.out
    assert ended.err == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    options = [option for option in command(name).params if isinstance(option, click.Option)]

    assert options
    assert [option.name for option in options if not (option.help or "").endswith(".")] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_command_that_can_be_read(name: str) -> None:
    found = command(name)
    example = (found.help or "").split("Example: optstudy ")[1].split("\n")[0].split()

    found.make_context(name, example[1:], parent=PROGRAM)  # raises if it cannot

    assert example[0] == name


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "ui"])
def test_a_command_that_prints_a_result_prints_it_as_json_too(name: str) -> None:
    assert "as_json" in {option.name for option in command(name).params}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_a_workspace(name: str) -> None:
    assert "workspace" in {option.name for option in command(name).params}


def test_the_programs_help_names_every_command(run: Run) -> None:
    ended = run("--help")

    assert ended.status == 0
    assert all(f"\n  {name} " in ended.out for name in COMMANDS)


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    assert "Usage: optstudy" in run().err


def test_the_version_is_the_packages(run: Run) -> None:
    assert run("--version").out == f"optstudy, version {optstudy.__version__}\n"


def test_python_runs_the_package_as_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "optstudy", "--version"], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"optstudy, version {optstudy.__version__}\n"
