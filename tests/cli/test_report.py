"""`optstudy report` writes a folder once, logs it once, and hides nothing from other commands."""

import hashlib
import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import studies
import tiny
from commands import Run
from mlflow import MlflowClient

from optstudy.cli import options
from optstudy.comparison.read import read_studies
from optstudy.comparison.table import compare
from optstudy.records.location import Location
from optstudy.report.archive import read_archive
from optstudy.report.commands import study_commands
from optstudy.report.figures import accuracies
from optstudy.tracking import embedded, open_existing
from optstudy.tracking.evidence import read_files


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def logged(workspace: Path, study: str = "tiny") -> dict[str, dict[str, str]]:
    """Contents of the reports in MLflow by the name of their runs."""
    client = MlflowClient(embedded.uri(workspace))
    experiment = client.get_experiment_by_name(f"{study}/report")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"}
    return {
        str(run.info.run_name): content(Path(client.download_artifacts(run.info.run_id, ""))) for run in runs
    }


@pytest.fixture
def few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out most figures, which take seconds and of which other tests are."""
    for part in ("_curvature_figures", "_row_figures", "_search_figures"):
        monkeypatch.setattr(f"optstudy.report.gallery.{part}", lambda *_: iter(()))


def test_one_space_file_says_how_an_optimizer_looks_in_tables_figures_and_reports(
    run: Run, finished_copy: Path, few_figures: None
) -> None:
    file = finished_copy / "tuning" / "spaces" / "unreliable.toml"
    looks = """label = "Unreliable!"
colour = "#123456"
style = ":D"
"""
    cite = """cite = "@misc{often-raises,\\n  year = {2026}\\n}"
"""
    file.write_text(looks + cite + file.read_text())

    written, table = run("report"), run("compare", "--format", "csv", "--metric", "cost")

    assert written.status == 0
    assert table.out.splitlines()[2].startswith("Unreliable!,best,")
    page, methods, bib = (
        Path("report", name).read_text() for name in ("index.html", "methods.md", "references.bib")
    )
    assert "SGD and Unreliable!" in page
    assert "We compared SGD [@sgd] and Unreliable! [@often-raises] with" in methods
    assert "@misc{often-raises,\n  year = {2026}\n}" in bib
    tracking = open_existing(Location(finished_copy))
    read = read_studies(tracking, ["tiny"], workspace=Path())
    drawn = accuracies(compare(read), read)
    assert [label.get_text() for label in drawn.axes[0].get_yticklabels()] == ["SGD", "Unreliable!"]
    assert ("#123456", "D") in {(line.get_color(), line.get_marker()) for line in drawn.axes[0].lines}


def test_a_report_is_written_and_logged_once(run: Run, finished_copy: Path, few_figures: None) -> None:
    first = run("report", "--output", "one")
    again = run("report", "--output", "two", "--json")
    table = run("compare", "--study", "tiny")
    state = run("status", "--json")

    assert first.status == 0
    assert first.out == "one/index.html (open it in a browser)\n"
    files = content(Path("one"))
    assert first.err.splitlines()[0].startswith(
        f"{len(files)} files in one; logged as tiny/report, run report-"
    )
    assert first.err.splitlines()[-1] == "next: optstudy ui --study tiny"
    assert again.status == 0
    assert content(Path("two")) == files
    said = json.loads(again.out)
    assert said["page"] == "two/index.html"
    assert sorted(said["files"]) == sorted(files)
    assert said["run"].startswith("tiny/report, run report-")
    [kept] = logged(finished_copy).values()
    assert kept == files
    archive = read_archive(Path("one"))
    known = json.loads(run("compare", "--json").out)
    assert json.loads(json.dumps(compare(archive).to_dict())) == known
    assert table.status == 0
    assert table.err == "next: optstudy ui --study tiny\n"
    assert [row["study"] for row in json.loads(state.out)] == ["tiny", "tiny"]
    for path in Path("one").rglob("*"):
        if path.is_file():
            assert str(finished_copy.parent).encode() not in path.read_bytes(), path


def test_commands_work_in_a_folder_of_any_name(
    run: Run, finished_copy: Path, few_figures: None, tmp_path: Path
) -> None:
    at_home = run("compare").out
    named = finished_copy.rename(tmp_path / "a%20b?c#d;e&f+g:h'\"\\<b>é ")

    moved, table, state, removed = (
        run(*words, "--workspace", str(named))
        for words in (["report"], ["compare"], ["status"], ["rm", "tiny", "--yes"])
    )

    assert [moved.status, table.status, state.status, removed.status] == [0, 0, 0, 0]
    assert moved.err.startswith(f"note: the workspace was moved from {finished_copy}: ")
    assert table.out == at_home
    assert table.err == f"next: optstudy ui --study tiny --workspace {shlex.quote(str(named))}\n"
    assert not (named / "mlruns" / "artifacts" / "tiny").exists()
    assert [path.name for path in tmp_path.iterdir()] == [named.name]


def test_other_content_is_another_run_and_two_studies_stand_in_one_report(
    run: Run, finished_copy: Path, few_figures: None
) -> None:
    list(tiny.study("later", configs=("default",), seeds=1).run("training"))

    alone = run("report", "--study", "tiny", "--output", "alone")
    both = run("report", "--study", "tiny", "--study", "later", "--output", "both")

    assert (alone.status, both.status) == (0, 0)
    assert len(logged(finished_copy)) == 2
    assert content(Path("both")) in logged(finished_copy).values()
    page = Path("both/index.html").read_text()
    assert "optstudy report --study tiny --study later" in page
    assert {row["study"] for row in json.loads(Path("both/comparison.json").read_text())["rows"]} == {
        "tiny",
        "later",
    }
    assert Path("both/figures/tiny-accuracies.pdf").exists()
    assert Path("both/figures/later-accuracies.pdf").exists()


def test_a_folder_with_anything_in_it_is_left_as_it_was(run: Run, finished_copy: Path) -> None:
    Path("report").mkdir()
    Path("report/mine.txt").write_text("mine")

    ended = run("report")

    assert ended.status == 2
    assert ended.line == "optstudy: report is not empty; give another --output"
    assert content(Path("report")).keys() == {"mine.txt"}


def test_an_output_that_is_a_file_is_refused(run: Run, finished_copy: Path, few_figures: None) -> None:
    Path("notes").write_text("mine")

    ended = run("report", "--output", "notes")
    below = run("report", "--output", "notes/report")

    assert ended.status == 2
    assert "'notes' is a file" in ended.line
    assert below.status == 1
    assert below.line == "optstudy: cannot write notes/report/index.html: Not a directory"
    assert Path("notes").read_text() == "mine"


def test_an_unknown_study_names_the_nearest(run: Run, finished_copy: Path) -> None:
    ended = run("report", "--study", "tyni")

    assert ended.status == 2
    assert ended.line == "optstudy: no study 'tyni' has final runs (did you mean 'tiny'?); there are tiny"
    assert not Path("report").exists()


def test_a_study_without_a_finished_run_is_refused(run: Run, finished_copy: Path) -> None:
    client = MlflowClient(embedded.uri(finished_copy))
    for found in studies.runs(finished_copy, "final").values():
        client.set_tag(found.info.run_id, "optstudy.superseded", "true")

    ended = run("report")

    assert ended.status == 2
    assert ended.line == (
        "optstudy: no final run of tiny is finished yet; `optstudy status` shows its progress"
    )
    assert not Path("report").exists()


def test_without_any_study_the_first_command_is_named(run: Run, workspace: Path) -> None:
    ended = run("report")

    assert ended.status == 2
    assert "run: optstudy study --preset quick" in ended.line


@pytest.mark.slow
def test_the_command_of_a_report_makes_the_same_runs(
    run: Run,
    once: Callable[[str, Callable[[Path], None]], Path],
    empty_store: Path,
    workspace: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    finished = studies.copy(studies.finish(once, empty_store), tmp_path / "finished")
    tracking = open_existing(Location(finished))
    read = read_studies(tracking, ["tiny"])
    command = study_commands(read_files(tracking, read), "tiny")

    def opened(
        name: str, location: Any, worker_pool: Any, settings: dict[str, Any], preset: str | None = None
    ) -> tiny.InProcessStudy:
        return tiny.InProcessStudy(name, preset=preset, **settings)

    monkeypatch.setattr(options, "open_study", opened)
    program, *arguments = shlex.split(command)
    ended = run(*arguments)

    assert program == "optstudy"
    assert ended.status == 0
    for kind in ("tuning", "final"):
        before, now = (
            {name: one.data.tags["optstudy.key"] for name, one in studies.runs(place, kind).items()}
            for place in (finished, workspace)
        )
        assert now == before
        assert before
    assert run("report", "--output", "full").status == 0
    drawn = {path.stem for path in Path("full/figures").glob("*.pdf")}
    assert drawn >= {"loss_lines", "ratios", "confusion-sgd", "surface-unreliable", "tuning_curves"}


def test_lost_files_of_runs_are_named_once_wherever_they_are_missed(
    run: Run, finished_copy: Path, few_figures: None
) -> None:
    shutil.rmtree("mlruns/artifacts/tiny/final")

    written, compared = run("report"), run("compare", "--json")

    assert (written.status, compared.status) == (0, 0)
    errors = (*written.err.splitlines(), *compared.err.splitlines())
    lost = [line for line in errors if "mlruns/artifacts lacks the files of" in line]
    runs = sum(row["seeds"] for row in json.loads(compared.out)["rows"])
    assert lost == [lost[0]] * 2
    assert lost[0].startswith(f"note: mlruns/artifacts lacks the files of {runs} finished runs (tiny/")
    assert lost[0].endswith("; the command that trained the runs restores them")
    page = Path("report/index.html").read_text()
    assert f"lost files: {lost[0].removeprefix('note: ')}." in page
    assert "did not record the specification" not in page
    assert "Warning" not in written.err


def test_a_run_with_a_damaged_file_is_left_out_and_named_on_the_page_and_in_the_files(
    retrained_copy: Path, run: Run, few_figures: None
) -> None:
    folder = studies.runs(retrained_copy, "final")["sgd/seed-1"].info.artifact_uri
    path = Path(str(folder).removeprefix("file://"), "eigen.npz")
    path.write_bytes(path.read_bytes()[:-9])
    problem = "its file eigen.npz does not agree with its checksum"

    ended = run("report")

    assert ended.status == 0
    assert f"note: tiny/sgd/seed-1 is left out: {problem}; the study's command restores it\n" in ended.err
    assert f"Left out, since {problem}: tiny/sgd/seed-1." in Path("report/index.html").read_text()
    assert len(json.loads(Path("report/runs.json").read_text())["runs"]) == 3
    [damage] = read_archive(Path("report")).damaged
    assert (damage.subject, damage.problem) == ("tiny/sgd/seed-1", problem)
