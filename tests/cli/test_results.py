"""Results go to standard output and nothing else does; each command names the next one on standard error."""

import csv
import io
import json
from pathlib import Path

import pytest
import tiny
from commands import Run

from optstudy.optimizers import find_spaces
from optstudy.records.io import write_sealed


def test_a_comparison_as_json_has_what_programs_read(run: Run, finished_copy: Path) -> None:
    ended = run("compare", "--json")

    content = json.loads(ended.out)
    assert [(row["study"], row["optimizer"], row["config"], row["seeds"]) for row in content["rows"]] == [
        ("tiny", "sgd", "best", 2),
        ("tiny", "unreliable", "best", 2),
    ]
    for row in content["rows"]:
        for part in ("train_accuracy", "test_accuracy"):
            assert set(row[part]) == {"mean", "low", "high", "paper"}
            assert 0 < row[part]["mean"] <= 1
            assert row[part]["low"] <= row[part]["mean"] <= row[part]["high"]
            assert row[part]["paper"] is None  # model and data are not the paper's
    assert content["excluded"] == {}


def test_the_table_is_on_standard_output_and_the_next_command_is_not(run: Run, finished_copy: Path) -> None:
    ended = run("compare")

    assert ended.status == 0
    assert "Optimizer" in ended.out
    assert "SGD" in ended.out
    assert ended.err == "next: optstudy ui --study tiny\n"


def test_numbers_end_where_their_header_does(run: Run, finished_copy: Path) -> None:
    lines = run("compare").out.splitlines()

    for header in ("Seeds", "Test (%)", "Rank", "Interval", "p (Holm)"):
        place = next(number for number, line in enumerate(lines) if header in line)
        end = lines[place].index(header) + len(header)
        assert lines[place + 2][end - 1] != " "
        assert lines[place + 2][end : end + 2].strip() == ""


@pytest.mark.parametrize(
    ("form", "begins"),
    [("markdown", "| Optimizer"), ("latex", r"\begin{table*}"), ("csv", "study,optimizer,config")],
)
def test_a_comparison_has_other_forms(form: str, begins: str, run: Run, finished_copy: Path) -> None:
    assert run("compare", "--format", form).out.startswith(begins)


def test_a_comparison_as_csv_has_the_numbers_of_the_json(run: Run, finished_copy: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("compare", "--format", "csv").out)))
    content = json.loads(run("compare", "--json").out)

    assert [float(row["test_accuracy"]) for row in rows] == [
        row["test_accuracy"]["mean"] for row in content["rows"]
    ]


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("cost", "Gradient work"),
        ("geometry", "First eigenvalue"),
        ("classes", "Worst class"),
        ("networks", "only A correct"),
    ],
)
def test_other_metrics_have_tables_of_their_own(
    metric: str, said: str, run: Run, finished_copy: Path
) -> None:
    ended = run("compare", "--metric", metric)

    assert ended.status == 0
    assert said in ended.out


def test_one_optimizer_alone_can_be_compared_and_an_unknown_one_is_named(
    run: Run, finished_copy: Path
) -> None:
    alone = json.loads(run("compare", "--opt", "sgd", "--json").out)
    unknown = run("compare", "--opt", "unreliabel")

    assert [row["optimizer"] for row in alone["rows"]] == ["sgd"]
    assert unknown.status == 2
    assert unknown.err.startswith(
        "optstudy: no final runs of 'unreliabel' in tiny (did you mean 'unreliable'?); there are sgd, unreliable"
    )


@pytest.mark.parametrize(("flags", "begins"), [([], "| Optimizer"), (["--json"], "{")])
def test_a_comparison_is_kept_in_a_file_that_is_never_overwritten(
    flags: list[str], begins: str, run: Run, finished_copy: Path
) -> None:
    first = run("compare", "--output", "table.txt", *flags)
    again = run("compare", "--output", "table.txt", *flags)
    nowhere = run("compare", "--output", "no/where.txt", *flags)

    assert (first.status, first.out) == (0, "")
    assert Path("table.txt").read_text().startswith(begins)
    assert again.status == 2
    assert again.err == "optstudy: table.txt already exists; give another --output\n"
    assert nowhere.status == 1
    assert nowhere.err == "optstudy: cannot write no/where.txt: No such file or directory\n"


def test_pairs_are_in_the_json(run: Run, finished_copy: Path) -> None:
    [pair] = json.loads(run("compare", "--json").out)["pairs"]

    assert (pair["a"], pair["b"], pair["seeds"]) == ("sgd/best", "unreliable/best", 2)
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert pair["verdict"] in ("better", "worse", "equivalent", "no difference shown")


def test_two_studies_stand_side_by_side(run: Run, finished_copy: Path) -> None:
    list(tiny.study("later", configs=("default",), seeds=1).run("training"))

    both = run("compare", "--study", "tiny", "--study", "later", "--json")
    latest = run("compare", "--json")
    table = run("compare", "--study", "later", "--study", "tiny")

    assert [row["study"] for row in json.loads(both.out)["rows"]] == ["tiny", "tiny", "later"]
    assert {row["study"] for row in json.loads(latest.out)["rows"]} == {"later"}
    assert table.out.split()[0] == "Study"
    assert table.out.index("later") < table.out.index("tiny")


def test_the_next_command_keeps_the_workspace(run: Run, finished: Path, finished_copy: Path) -> None:
    ended = run("compare", "--workspace", "../copy")

    assert ended.err == "next: optstudy ui --study tiny --workspace ../copy\n"


def test_status_prints_the_progress_of_a_study(run: Run, finished_copy: Path) -> None:
    ended = run("status", "--json")
    table = run("status")

    statuses = json.loads(ended.out)
    assert [status["optimizer"] for status in statuses] == ["sgd", "unreliable"]
    counts = {"study": "tiny", "trials": 6, "trials_asked": 6, "runs": 2, "runs_asked": 2}
    assert all(status.items() >= counts.items() for status in statuses)
    assert "6 of 6" in table.out
    assert table.err == "next: optstudy compare --study tiny\n"


def test_status_counts_a_repeated_configuration_once(run: Run, workspace: Path) -> None:
    space = workspace / "tuning" / "spaces" / "two.toml"
    space.write_text(
        'optimizer = "torch.optim.SGD"\ndefault.lr = 0.1\n\n[search.lr]\nchoices = [0.1, 0.01]\nwhy = "Two."\n'
    )
    list(tiny.study(optimizers=("two",), tune_epochs=1).run("tuning"))

    assert "4 of 4 (2 distinct)" in run("status").out
    assert json.loads(run("status", "--json").out)[0]["distinct"] == 2


def test_a_study_that_is_logged_elsewhere_says_where(run: Run, finished_copy: Path) -> None:
    path = finished_copy / "tuning" / "studies" / "tiny" / "specification.json"
    content = json.loads(path.read_text())
    content["facts"]["tracking"] = "http://host:5000"
    del content["checksum"]
    write_sealed(path, content)

    both = run("status")
    (finished_copy / "mlruns" / "mlflow.db").unlink()
    alone = [run("status"), run("compare")]

    assert both.status == 0
    assert both.err.splitlines()[0] == (
        "note: study 'tiny' is logged to http://host:5000; give --tracking-uri http://host:5000 to see its runs"
    )
    for ended in alone:
        assert ended.status == 2
        assert ended.line == (
            "optstudy: study 'tiny' is logged to http://host:5000; give --tracking-uri http://host:5000"
        )


def test_a_plan_is_printed_and_nothing_is_written(run: Run, user_files: Path) -> None:
    ended = run("study", "--study", "mine", "--dry-run", "--json", "--jobs", "1", *tiny.options())

    content = json.loads(ended.out)
    assert (content["study"], content["jobs"]) == ("mine", 1)
    assert content["specification"]["model"] == "net.py:make"
    assert content["specification"]["optimizers"] == ["sgd"]
    assert content["hours"] > 0
    assert content["disk_bytes"] > 0
    assert ended.err.startswith(
        "next: optstudy study --study mine --json --jobs 1 --set dataset=images.py:load "
    )
    assert "--dry-run" not in ended.err
    assert not (user_files / "mlruns").exists()
    assert not (user_files / "tuning" / "studies").exists()


@pytest.mark.slow
def test_tuning_and_training_print_their_results_alone(run: Run, workspace: Path) -> None:
    settings = ["--jobs", "1", "--study", "mine", *tiny.options(trials=2, seeds=1)]

    tuned = run("tune", "--json", *settings)
    trained = run("train", "--json", *settings)

    assert list(json.loads(tuned.out)) == ["sgd"]
    kept = json.loads((workspace / "tuning" / "best" / "mine" / "sgd.json").read_text())
    del kept["checksum"]
    assert json.loads(tuned.out)["sgd"] == kept
    assert tuned.err.splitlines()[-1] == "next: optstudy train --opt sgd --study mine"
    assert [row["seeds"] for row in json.loads(trained.out)["rows"]] == [1]
    assert trained.err.splitlines()[-1] == "next: optstudy compare --study mine"


def test_a_study_and_its_training_print_the_finished_searches(run: Run, finished_copy: Path) -> None:
    compared = json.loads(run("compare", "--json").out)["searches"]

    for command in ("study", "train"):
        printed = json.loads(run(command, "--study", "tiny", "--jobs", "1", "--json").out)["searches"]
        assert printed == compared
    assert [(one["study"], one["optimizer"], one["finalists"]) for one in compared] == [
        ("tiny", "sgd", 0),
        ("tiny", "unreliable", 0),
    ]
    for one in compared:
        kept = json.loads(
            (finished_copy / "tuning" / "best" / "tiny" / f"{one['optimizer']}.json").read_text()
        )
        assert (one["chosen"], one["config"], one["score"]) == (kept["trial"], kept["config"], kept["score"])


def test_quiet_leaves_the_result(run: Run, finished_copy: Path) -> None:
    ended = run("tune", "--study", "tiny", "--opt", "sgd", "--jobs", "1", "--quiet")

    assert ended.status == 0
    assert ended.err == ""
    assert "Saved to tuning/best/tiny" in ended.out


def test_the_optimizers_are_listed_with_the_workspaces_own(run: Run, user_files: Path) -> None:
    listed = json.loads(run("optimizers", "--json").out)

    assert [item["name"] for item in listed] == sorted(find_spaces(user_files))
    assert {
        "name": "unreliable",
        "optimizer": "unreliable.py:Unreliable",
        "source": "tuning/spaces/unreliable.toml",
    } in listed
    assert "unreliable.py:Unreliable" in run("optimizers").out


def test_space_files_that_cannot_be_read_hide_no_other(run: Run, user_files: Path) -> None:
    for name in ("one", "two"):
        (user_files / "tuning" / "spaces" / f"{name}.toml").write_text("optimizer = ")

    ended = run("optimizers", "--json")
    everything = run("tune", "--opt", "all")

    assert ended.status == 1
    assert [item["name"] for item in json.loads(ended.out)] == sorted(
        {*find_spaces(user_files)} - {"one", "two"}
    )
    assert [line.split(": ")[1] for line in ended.err.splitlines()] == [
        "tuning/spaces/one.toml",
        "tuning/spaces/two.toml",
    ]
    assert everything.status == 2
    assert everything.line.startswith("optstudy: tuning/spaces/one.toml: ")


@pytest.mark.parametrize("name", ["adam", "adahessian", "unreliable", "rmsprop"])
def test_an_optimizer_is_shown_with_what_is_searched_and_why(name: str, run: Run, user_files: Path) -> None:
    ended = run("optimizers", name)
    content = json.loads(run("optimizers", name, "--json").out)

    assert content["name"] == name
    assert set(content["search"]) == set(content["default"])
    assert all(item["why"] for item in content["search"].values())
    assert "lr" in ended.out
    assert ended.err == f"next: optstudy tune --opt {name}\n"


def test_a_moved_workspace_is_mended_with_a_note_and_only_once(finished_copy: Path, run: Run) -> None:
    finished_copy.rename(finished_copy.with_name("moved"))

    first = run("compare", "--workspace", "../moved")
    second = run("compare", "--workspace", "../moved")

    assert first.out == second.out
    assert first.err.startswith("note: the workspace was moved from ")
    assert second.err == "next: optstudy ui --study tiny --workspace ../moved\n"
