"""The documentation shows what works: its files run, its commands parse, its links lead somewhere, the site builds."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import reference_pages
import tiny

import optstudy.curvature
from optstudy.cli.main import COMMANDS, group
from optstudy.optimizers import find_spaces, load_space
from optstudy.optimizers.space_file import key_table
from optstudy.study.keys import KEYS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MANUAL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
PAGES = {path: path.read_text() for path in [*MANUAL, *sorted(DOCS.glob("reference/*.md"))]}
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
# The text behind the language of a fenced block is the name of a file.
FILES = sorted(
    {
        (opening.split()[1], text)
        for path, page in PAGES.items()
        if path.name != "DEPLOY.md"  # shows files of deploy/, which test_deploy.py compares
        for opening, text in FENCE.findall(page)
        if len(opening.split()) == 2 and not opening.startswith("{")
    }
)
LINES = sorted(
    {line for page in PAGES.values() for line in re.findall(r"^\$ optstudy (.*)$", page, re.MULTILINE)}
)
SMALL = ("tune_epochs=1", "train_epochs=1", "tune_size=400", "validation=200", "batch_size=50", "batch=2")


@pytest.fixture
def reader(empty_store: Path, tmp_path: Path) -> Path:
    """The folder of somebody who copied every file of the pages."""
    folder = Path(shutil.copytree(empty_store, tmp_path / "reader"))
    for name, text in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_the_pages_show_each_file_of_examples_as_it_is() -> None:
    examples = {(path.name, path.read_text()) for path in (ROOT / "examples").iterdir() if path.is_file()}

    assert {(Path(name).name, text) for name, text in FILES} == examples


def test_the_readme_has_at_most_150_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_contributing_is_one_page() -> None:
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 130


@pytest.mark.parametrize("name", COMMANDS)
def test_the_manual_has_a_section_for_each_command_with_an_example(name: str) -> None:
    sections = [section(PAGES[path], f"`optstudy {name}`") for path in MANUAL]

    assert any(re.search(rf"^\$ optstudy {name}\b", text, flags=re.MULTILINE) for text in sections)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_each_command_ends_with_an_example_that_parses(name: str) -> None:
    command = group.get_command(click.Context(group), name)

    assert command is not None
    assert command.help is not None
    example = re.search(r"Example: optstudy (.*)$", command.help.strip())
    assert example is not None
    assert example[1].split()[0] == name
    parse(example[1])


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_of_the_pages_parses(line: str) -> None:
    parse(line)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_link_of_a_page_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target in links(PAGES[path]):
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path

        assert file.exists(), target
        assert not anchor or anchor in anchors(file.read_text()), target


@pytest.mark.parametrize("name", reference_pages.pages())
def test_each_generated_page_is_what_the_code_gives(name: str) -> None:
    assert (DOCS / name).read_text() == reference_pages.pages()[name], "run: make docs"


@pytest.mark.parametrize("kind", ["presets", "spaces"])
def test_the_reference_explains_each_key_of_the_packaged_files(kind: str) -> None:
    page = PAGES[DOCS / "reference" / f"{kind}.md"]
    used = {
        key
        for path in (ROOT / "tuning" / kind).glob("*.toml")
        for key in keys(tomllib.loads(path.read_text()))
    }

    assert used
    assert not {key for key in used if f"| `{key}` |" not in page}


@pytest.mark.parametrize("kind", ["presets", "spaces"])
def test_the_reference_explains_each_key_that_the_code_knows(kind: str) -> None:
    known: list[reference_pages.Key] = [*KEYS.values()] if kind == "presets" else [*key_table()]
    page = PAGES[DOCS / "reference" / f"{kind}.md"]

    assert not [key.name for key in known if not re.search(rf"^\| `\[?{key.name}[.`\]]", page, re.MULTILINE)]
    assert all(key.meaning and key.values for key in known)


def test_the_reference_has_each_public_name_of_curvature() -> None:
    page = PAGES[DOCS / "reference" / "api.md"]

    assert {*re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE)} == {*optstudy.curvature.__all__}


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    recipe = re.search(r"-m sphinx (.*) \$\(ARGS\)", (ROOT / "Makefile").read_text())
    assert recipe is not None

    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *recipe[1].split(), "--quiet", DOCS, tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "index.html").exists()


def test_each_space_of_the_pages_is_found_and_read(reader: Path) -> None:
    written = {Path(name).stem for name, _ in FILES if name.endswith(".toml")}

    assert written == {"adamax", "lion"}
    for name in written:
        assert find_spaces(reader)[name].is_relative_to(reader)
        assert load_space(name, reader).name == name


@pytest.mark.slow
def test_model_data_loss_and_optimizers_of_the_pages_run_a_study(reader: Path) -> None:
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
def test_the_study_in_python_runs_as_it_stands(reader: Path) -> None:
    done = subprocess.run(
        [sys.executable, "study_script.py"], cwd=reader, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[-2:]]
    assert [(optimizer, seeds) for _, optimizer, seeds, *_ in rows] == [("sgd", "3"), ("adam", "3")]
    assert all(float(test) > 0.5 for *_, test in rows)  # guessing reaches 0.1


@pytest.mark.slow
def test_the_first_study_in_python_runs(
    reader: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(reader)
    monkeypatch.setattr("optstudy.Study", Brief, raising=False)

    runpy.run_path("first_study.py", run_name="__main__")

    rows = [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]
    assert [(optimizer, seeds) for _, optimizer, seeds, *_ in rows] == [("sgd", "2"), ("adam", "2")]


@pytest.mark.parametrize(
    "name",
    [
        "cost_script.py",
        "curvature_script.py",
        "layers_script.py",
        "processes_script.py",
        "scipy_script.py",
        "tokens_script.py",
        "tracking_script.py",
    ],
)
def test_each_example_of_curvature_runs_as_it_stands(name: str, reader: Path) -> None:
    done = subprocess.run([sys.executable, name], cwd=reader, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "separated" in done.stdout


class Brief(tiny.InProcessStudy):
    """A study without workers and curvature, whose start and figures take longer than the study."""

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **settings, samples=0)


def parse(line: str) -> None:
    """Let click read a command line, without doing anything."""
    name, *arguments = shlex.split(line)
    command = group.get_command(click.Context(group), name)
    assert command is not None
    command.make_context(name, arguments)


def section(page: str, heading: str) -> str:
    """Return the text below a heading, up to the next of any level; empty if there is none."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def links(page: str) -> Iterator[str]:
    """Yield the targets of links and images that are no addresses."""
    prose = FENCE.sub("", page)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            yield target


def anchors(page: str) -> set[str]:
    """Return the anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def keys(document: dict[str, object]) -> Iterator[str]:
    """Yield the keys of a preset or a space file, as the reference names them."""
    for name, value in document.items():
        if name == "search" and isinstance(value, dict):
            yield "[search.NAME]"
            yield from {key for dimension in value.values() for key in dimension}
        else:
            yield f"[{name}]" if isinstance(value, dict) else name
