"""What changed in MLflow after a study had logged it is named and left out, until the study's command restores it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import studies
import tiny
from commands import Run
from mlflow import MlflowClient

from optstudy.records.checksums import Checksums
from optstudy.tracking import embedded

METRIC = "final/test_accuracy_pct"


def run_id(kind: str, name: str) -> str:
    return str(studies.runs(Path(), kind)[name].info.run_id)


def artifact(name: str, kind: str = "final", run: str = "sgd/seed-1") -> Path:
    return Path("mlruns", "artifacts", "tiny", kind, run_id(kind, run), "artifacts", name)


def change_values(statement: str, key: str, kind: str = "final", run: str = "sgd/seed-1") -> None:
    """Change the metric, parameter or tag of a run in the database."""
    studies.change_database(Path(), f"{statement} WHERE run_uuid = '{run_id(kind, run)}' AND key = '{key}'")


def metric() -> None:
    change_values("UPDATE metrics SET value = value + 1", METRIC)
    change_values("UPDATE latest_metrics SET value = value + 1", METRIC)


def higher_metric_with_a_later_time() -> None:
    change_values("UPDATE metrics SET value = 1e9, timestamp = timestamp + 100000", "final/seconds")
    change_values("UPDATE latest_metrics SET value = 1e9, timestamp = timestamp + 100000", "final/seconds")


def missing_metric() -> None:
    change_values("DELETE FROM metrics", "final/train_accuracy_pct")
    change_values("DELETE FROM latest_metrics", "final/train_accuracy_pct")


def pace() -> None:
    change_values("UPDATE metrics SET value = value * 10", "final/step_seconds")
    change_values("UPDATE latest_metrics SET value = value * 10", "final/step_seconds")


def seed() -> None:
    change_values("UPDATE params SET value = '7'", "seed")


def missing_parameter() -> None:
    change_values("DELETE FROM params", "optimizer")


def margin() -> None:
    change_values("UPDATE tags SET value = 'abc'", "optstudy.margin")


def verdict() -> None:
    change_values("DELETE FROM tags", "optstudy.ratio_verdict")


def checksums() -> None:
    change_values("UPDATE tags SET value = replace(value, 'metrics', 'metrixs')", "optstudy.checksums")


def edit(name: str, change: Callable[[bytes], bytes], kind: str = "final", run: str = "sgd/seed-1") -> None:
    path = artifact(name, kind, run)
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before


def digit() -> None:
    edit("epochs.json", lambda data: data.replace(b'"heldout_accuracy": 0.', b'"heldout_accuracy": 0.1', 1))


def string_for_a_number() -> None:
    edit("epochs.json", lambda data: data.replace(b'"epoch": 1', b'"epoch": "1"', 1))


def bit() -> None:
    edit("predictions.npz", lambda data: data[:60] + bytes([data[60] ^ 4]) + data[61:])


def shorter() -> None:
    edit("eigen.npz", lambda data: data[: len(data) // 2])


def search_cut() -> None:
    edit("search.json", lambda data: data[: len(data) // 2], "tuning", "sgd")


def search_digit() -> None:
    edit("search.json", lambda data: data.replace(b'"score": 0.', b'"score": 0.1', 1), "tuning", "sgd")


def search_parameter() -> None:
    change_values("UPDATE params SET value = 'gp'", "sampler", "tuning", "sgd")


DAMAGES = {
    metric: f"its metric {METRIC} does not agree with its checksum",
    higher_metric_with_a_later_time: "its metric final/seconds does not agree with its checksum",
    missing_metric: "its metric final/train_accuracy_pct is missing",
    pace: "its metric final/step_seconds does not agree with its checksum",
    seed: "its parameter seed does not agree with its checksum",
    missing_parameter: "its parameter optimizer is missing",
    margin: "its tag optstudy.margin does not agree with its checksum",
    verdict: "its tag optstudy.ratio_verdict is missing",
    checksums: "its tag optstudy.checksums does not agree with its checksum",
    digit: "its file epochs.json does not agree with its checksum",
    string_for_a_number: "its file epochs.json does not agree with its checksum",
    bit: "its file predictions.npz does not agree with its checksum",
    shorter: "its file eigen.npz does not agree with its checksum",
    search_cut: "its file search.json does not agree with its checksum",
    search_digit: "its file search.json does not agree with its checksum",
    search_parameter: "its parameter sampler does not agree with its checksum",
}


def named(run: Run, damage: Callable[[], None]) -> None:
    """Check that a damaged run or search is named, and that the comparison goes on without it."""
    of_search = damage.__name__.startswith("search")
    subject = "the search tiny/sgd" if of_search else "tiny/sgd/seed-1"

    ended, table = run("compare", "--json"), run("compare", "--format", "markdown")

    content = json.loads(ended.out)
    assert (ended.status, table.status) == (0, 0)
    assert content["damaged"] == [{"run": subject, "problem": DAMAGES[damage]}]
    assert content["excluded"] == {"damaged searches" if of_search else "damaged": 1}
    assert [row["seeds"] for row in content["rows"]] == ([2, 2] if of_search else [1, 2])
    assert len(content["searches"]) == (1 if of_search else 2)
    note = f"note: {subject} is left out: {DAMAGES[damage]}; the study's command restores it"
    assert note in ended.err.splitlines()
    assert f"Left out, since {DAMAGES[damage]}: {subject}." in table.out


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_what_is_damaged_is_named_and_left_out(
    damage: Callable[[], None], retrained_copy: Path, run: Run
) -> None:
    damage()

    named(run, damage)


@pytest.mark.parametrize(
    "damage",
    [metric, higher_metric_with_a_later_time, margin, bit, search_cut, search_parameter],
    ids=lambda damage: damage.__name__,
)
def test_the_command_of_the_study_restores_what_is_damaged_without_a_number_computed(
    damage: Callable[[], None], retrained: Path, retrained_copy: Path, run: Run
) -> None:
    rungs = studies.rung_times(retrained_copy)
    damage()
    subject = "the search tiny/sgd" if damage.__name__.startswith("search") else "tiny/sgd/seed-1"

    said = studies.texts(tiny.reopened_study().run())

    deletion = ", and deletes the damaged run in MLflow, which keeps deleted runs"
    again = f"this command logs it again{deletion if ' file ' not in DAMAGES[damage] else ''}"
    assert said == [f"{subject} is damaged: {DAMAGES[damage]}; {again}"]
    ended, original = run("compare", "--json"), run("compare", "--json", "--workspace", str(retrained))
    assert ended.out == original.out
    assert ended.err == "next: optstudy ui --study tiny\n"
    assert studies.rung_times(retrained_copy) == rungs
    parents = {
        one.data.tags["mlflow.parentRunId"]
        for name, one in studies.runs(retrained_copy, "tuning").items()
        if name.startswith("sgd/")
    }
    assert parents == {run_id("tuning", "sgd")}
    assert studies.texts(tiny.reopened_study().run()) == []


def test_commands_for_a_damaged_run_refuse_it_in_one_line(retrained_copy: Path, run: Run) -> None:
    metric()
    line = f"optstudy: tiny/sgd/seed-1 is damaged: {DAMAGES[metric]}; the study's command restores it"

    for target in ("tiny/sgd/seed-1", "tiny/sgd", run_id("final", "sgd/seed-1")):
        for command in ("reproduce", "curvature"):
            ended = run(command, target)
            assert (ended.status, ended.line) == (1, line)


@pytest.mark.parametrize(
    ("name", "command"),
    [("weights.pt", "reproduce"), ("weights.pt", "curvature"), ("plan.json", "curvature")],
)
def test_commands_for_a_run_with_a_damaged_file_name_it(
    name: str, command: str, retrained_copy: Path, run: Run
) -> None:
    edit(name, lambda data: data[:-30] + bytes(30))

    ended = run(command, "tiny/sgd/seed-1")

    assert ended.status == 1
    assert ended.line == (
        f"optstudy: tiny/sgd/seed-1 is damaged: its file {name} does not agree with its checksum;"
        " the study's command restores it"
    )


def test_if_all_runs_are_damaged_there_is_no_table(retrained_copy: Path, run: Run) -> None:
    studies.change_database(
        retrained_copy, "UPDATE latest_metrics SET value = 1 WHERE key = 'final/test_accuracy_pct'"
    )

    for command in ("compare", "report"):
        ended = run(command)
        assert ended.status == 1
        assert ended.err.splitlines()[-1].startswith("optstudy: no finished run of tiny is undamaged: tiny/")
        assert ended.err.splitlines()[-1].endswith("; the study's command restores it (and 3 more)")


def test_runs_without_checksums_are_read_and_said_to_be_so_once(retrained_copy: Path, run: Run) -> None:
    whole = run("compare", "--json")
    studies.drop_checksums(retrained_copy)

    ended = run("compare", "--json")

    assert ended.out == whole.out
    assert ended.err.splitlines()[:-1] == [
        "note: 6 finished runs and searches were logged before there were checksums, so damage may go unnoticed"
    ]


def test_a_run_without_checksums_that_lacks_a_parameter_or_has_an_unreadable_tag_is_named(
    retrained_copy: Path, run: Run
) -> None:
    studies.drop_checksums(retrained_copy)
    margin()
    change_values("DELETE FROM params", "optimizer", run="sgd/seed-0")

    ended = run("compare", "--json")

    assert ended.status == 0
    assert [(one["run"], one["problem"]) for one in json.loads(ended.out)["damaged"]] == [
        ("tiny/sgd/seed-0", "a metric, parameter or tag is missing or wrong (KeyError: 'optimizer')"),
        (
            "tiny/sgd/seed-1",
            "a metric, parameter or tag is missing or wrong (ValueError: could not convert string to float: 'abc')",
        ),
    ]


def test_a_run_whose_optimizer_is_no_file_name_is_left_out_and_no_file_of_that_name_is_read(
    retrained_copy: Path, run: Run
) -> None:
    studies.drop_checksums(retrained_copy)
    Path("outside.toml").write_text("not of the spaces")
    change_values("UPDATE params SET value = '../../outside'", "optimizer")

    ended = run("compare", "--json")

    assert ended.status == 0
    assert [(one["run"], one["problem"]) for one in json.loads(ended.out)["damaged"]] == [
        (
            "tiny/sgd/seed-1",
            "optimizer name '../../outside': use printable characters other than '/', and do not begin with '.'",
        )
    ]


def test_a_finished_run_has_its_checksums_before_it_is_finished(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MlflowClient, "set_terminated", killed)
    with pytest.raises(KeyboardInterrupt):
        list(tiny.study(configs=("default",), seeds=1).run("training"))

    found = studies.runs(workspace, "final")["sgd/default/seed-0"]
    assert found.info.status == "RUNNING"
    assert set(Checksums.from_tag(found.data.tags["optstudy.checksums"]).files) == studies.FILES


def test_status_does_not_count_a_damaged_run_as_finished_and_says_why(retrained_copy: Path, run: Run) -> None:
    metric()

    ended = run("status")

    assert "1 of 2" in ended.out
    assert f"tiny, sgd, damaged: {DAMAGES[metric]} (1 final run)" in ended.out
    assert ended.err == "next: optstudy train --study tiny\n"


RENAMED = {
    "in the interface": lambda client, one: client.update_run(one, name="my best run"),
    "by its tag": lambda client, one: client.set_tag(one, "mlflow.runName", "my best run"),
}


@pytest.mark.parametrize("has_tag", [True, False], ids=["now", "before there was a tag of the name"])
@pytest.mark.parametrize("rename", RENAMED.values(), ids=RENAMED)
def test_a_renamed_final_run_stays_the_one_it_was(
    rename: Callable[[MlflowClient, str], None], has_tag: bool, retrained_copy: Path, run: Run
) -> None:
    whole = run("compare", "--json").out
    status = run("status", "--json").out
    one = run_id("final", "sgd/seed-1")
    if not has_tag:
        studies.drop_checksums(retrained_copy)
        studies.change_database(retrained_copy, "DELETE FROM tags WHERE key = 'optstudy.run'")
    rename(MlflowClient(embedded.uri(retrained_copy)), one)

    assert studies.texts(tiny.reopened_study().run()) == []

    assert run("compare", "--json").out == whole
    assert run("status", "--json").out == status
    assert len(studies.runs(retrained_copy, "final")) == 4
    assert studies.runs(retrained_copy, "final")["my best run"].info.run_id == one


def test_a_renamed_trial_is_not_logged_again(retrained_copy: Path) -> None:
    client, before = MlflowClient(embedded.uri(retrained_copy)), studies.runs(retrained_copy, "tuning")
    for number, one in enumerate(before.values()):
        client.update_run(one.info.run_id, name=f"mine {number}")

    assert studies.texts(tiny.reopened_study().run()) == []

    assert len(studies.runs(retrained_copy, "tuning")) == len(before)


def test_of_two_runs_of_one_seed_the_one_that_started_last_counts_and_the_other_is_said(
    retrained_copy: Path, run: Run
) -> None:
    client, whole = MlflowClient(embedded.uri(retrained_copy)), json.loads(run("compare", "--json").out)
    first = run_id("final", "sgd/seed-1")
    client.delete_run(first)
    studies.change_database(
        retrained_copy, "UPDATE runs SET start_time = 1 WHERE lifecycle_stage = 'deleted'"
    )
    list(tiny.reopened_study().run())
    client.restore_run(first)

    found, table = json.loads(run("compare", "--json").out), run("compare", "--format", "markdown")

    assert found["rows"] == whole["rows"]
    assert found["excluded"] == {"logged twice": 1}
    assert "Runs left out: 1 logged twice." in table.out


def test_a_parameter_that_a_user_adds_is_neither_damage_nor_a_hyperparameter(
    retrained_copy: Path, run: Run
) -> None:
    whole = run("compare", "--json").out
    client = MlflowClient(embedded.uri(retrained_copy))
    for kind, name in (("final", "sgd/seed-1"), ("tuning", "sgd")):
        client.log_param(run_id(kind, name), "mine", "3")

    ended = run("compare", "--json")

    assert ended.out == whole
    assert ended.err == "next: optstudy ui --study tiny\n"
    assert studies.texts(tiny.reopened_study().run()) == []


@pytest.mark.parametrize("name", ["weights.pt", "confusion.png"])
def test_a_report_leaves_out_a_run_with_damaged_weights_or_figures(
    name: str, retrained_copy: Path, run: Run
) -> None:
    edit(name, lambda data: data[:-30] + bytes(30))

    ended = run("report", "--json")

    note = f"note: tiny/sgd/seed-1 is left out: its file {name} does not agree with its checksum;"
    assert (ended.status, ended.err.startswith(note)) == (0, True)
    archived = json.loads(Path("report", "runs.json").read_text())
    assert [one["seed"] for one in archived["runs"] if one["optimizer"] == "sgd"] == [0]
