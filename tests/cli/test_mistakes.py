"""Whatever is wrong ends in one line that says what, where and what would be right; nothing is lost."""

import json
import shlex
import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tiny
from commands import Run
from studies import drop_checksums

from optstudy.errors import suggestion
from optstudy.study.driver import Study
from optstudy.study.workspace import StudyFiles, locked
from optstudy.tracking import embedded, stores


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("tun", "no command 'tun' (did you mean 'tune'?); see optstudy --help"),
        ("tune extra", "unexpected extra argument (extra)"),
        ("tune --sampla tpe", "No such option '--sampla'. Did you mean '--sampler'?"),
        ("tune --trials", "Option '--trials' requires an argument."),
        ("tune --trials 0", "Invalid value for '--trials': 0 is not in the range x>=1."),
        ("tune --trials -3", "Invalid value for '--trials': -3 is not in the range x>=1."),
        ("tune --trials few", "Invalid value for '--trials': 'few' is not a valid integer"),
        ("tune --epochs 0", "Invalid value for '--epochs': 0 is not in the range x>=1."),
        ("tune --jobs 0", "Invalid value for '--jobs': 0 is not in the range x>=1."),
        ("tune --pruner all", "Invalid value for '--pruner': 'all' is not one of 'median'"),
        ("train --seeds 0", "Invalid value for '--seeds': 0 is not in the range x>=1."),
        ("train --config bset", "Invalid value for '--config': 'bset' is not one of 'best'"),
        ("train --batch-size -1", "Invalid value for '--batch-size': -1 is not in the range x>=1."),
        ("study --seed -1", "Invalid value for '--seed': -1 is not in the range x>=0."),
        (
            "study --set trails=3",
            "--set 'trails=3': a study has no key 'trails' (did you mean 'trials'?)",
        ),
        (
            "study --set timeout=60",
            "--set 'timeout=60': a study has no key 'timeout'; the keys are dataset, model",
        ),
        ("study --set trials", "--set 'trials' lacks a value; write --set trials=VALUE"),
        (
            "study --trials 2 --set trials=3",
            "--set trials: trials is given twice; give it once, as an option or by --set",
        ),
        (
            "study --opt sgd --set optimizers=adam",
            "--set optimizers: optimizers is given twice; give it once, as an option or by --set",
        ),
        (
            "study --set trials=2 --set trials=3",
            "--set trials: trials is given twice; give it once, as an option or by --set",
        ),
        (
            "study --seeds 99999999999999999999",
            "seeds is 99999999999999999999; it must be 1000 or less",
        ),
        ("study --set trials=0", "trials is 0; it must be 1 or more"),
        ("study --set trials=x", "--set 'trials=x': trials must be a whole number"),
        ("study --set optimizers=", "optimizers has ''; it must be a name"),
        (
            "study --preset quik",
            "no preset 'quik' (did you mean 'quick'?); there are mnist, paper, quick, smoke",
        ),
        ("study --study a/b", "study name 'a/b': use letters, digits"),
        ("study --preset smoke --study ..", "study name '..': use letters, digits"),
        ("study --preset " + "x" * 300, f"preset name '{'x' * 40}'...: use at most 200 characters"),
        ("study --preset für", "no preset 'für'; there are"),
        ("tune --opt sdg", "no optimizer is named 'sdg' (did you mean 'sgd'?)"),
        ("tune --opt sgd --opt adam --opt sgd", "optimizers has 'sgd' more than once; name it once"),
        ("train --opt sgd --opt sgd", "optimizers has 'sgd' more than once; name it once"),
        ("study --set optimizers=sgd,sgd", "optimizers has 'sgd' more than once; name it once"),
        ("train --config paper --config paper", "configs has 'paper' more than once; name it once"),
        ("train --opt sdg", "no optimizer is named 'sdg' (did you mean 'sgd'?)"),
        ("optimizers sdg", "no optimizer is named 'sdg' (did you mean 'sgd'?)"),
        ("tune --model nets.py:make", "nets.py: no such file in "),
        ("tune --model net.py", "net.py: name a function of the file, as in net.py:make"),
        ("tune --dataset absent.py:load", "absent.py: no such file in "),
        ("tune --loss net.py", "net.py: name a function of the file"),
        ("compare", "no study has run in "),
        ("status", "no study has run in "),
        ("ui", "no study has run"),
        ("compare --format pdf", "Invalid value for '--format': 'pdf' is not one of 'table'"),
        ("ui --port 0", "Invalid value for '--port': 0 is not in the range 1<=x<=65535."),
        ("tune --workspace net.py", "Invalid value for '--workspace': Directory 'net.py' is a file."),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(arguments: str, said: str, run: Run, user_files: Path) -> None:
    ended = run(*arguments.split())

    assert ended.status == 2
    assert ended.line.startswith("optstudy: ")
    assert said in ended.err.splitlines()[-1]
    assert not (user_files / "mlruns").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "[search] is missing or empty"),
        ("optimizer = ", "Invalid"),
        (tiny.UNRELIABLE_SPACE.replace('"unreliable.py:Unreliable"', "5"), "optimizer"),
        (tiny.UNRELIABLE_SPACE.replace("low = 1e-5", "low = 0.9"), "low 0.9"),
        (tiny.UNRELIABLE_SPACE.replace('["works", "raises"]', "[]"), "mode"),
    ],
)
def test_a_space_that_says_nothing_sensible_is_one_line_with_its_file(
    text: str, said: str, run: Run, user_files: Path
) -> None:
    (user_files / "tuning" / "spaces" / "mine.toml").write_text(text)

    ended = run("tune", "--opt", "mine")

    assert ended.status == 2
    assert ended.line.startswith("optstudy: tuning/spaces/mine.toml: ")
    assert said in ended.line


def test_a_second_driver_is_refused(run: Run, user_files: Path) -> None:
    with locked(StudyFiles(Path(), "tiny")):
        ended = run("tune", "--study", "tiny", *tiny.options())

    assert ended.status == 2
    assert ended.line.startswith("optstudy: study 'tiny' is being run by process ")
    assert ended.line.endswith("; wait for it or use another --study")


def test_a_changed_study_is_refused_with_the_same_command_under_a_free_name(
    run: Run, finished_copy: Path
) -> None:
    ended = run("study", "--study", "tiny", "--batch-size", "50", "--set", "model=net.py:make")

    assert (ended.status, ended.out) == (2, "")
    said, command = ended.err.splitlines()
    assert said.startswith("optstudy: study 'tiny' was started with batch_size 25, not 50; ")
    words = shlex.split(command)
    assert words[:6] == ["optstudy", "study", "--batch-size", "50", "--set", "model=net.py:make"]
    assert words[-2:] == ["--study", "tiny-2"]


@pytest.mark.parametrize("given", [["--batch-size", "50"], ["--batch-size", "50", "--set", "trials=3"]])
def test_the_command_under_a_free_name_plans_the_recorded_study_with_the_change(
    given: list[str], run: Run, finished_copy: Path
) -> None:
    recorded = Study("tiny").specification.to_keys()
    command = run("study", "--study", "tiny", *given).err.splitlines()[-1]

    planned = run(*shlex.split(command)[1:], "--dry-run", "--json")

    assert planned.status == 0
    expected = {**recorded, "batch_size": 50, **({"trials": 3} if "trials=3" in given else {})}
    assert json.loads(planned.out)["specification"] == json.loads(json.dumps(expected))


def test_a_changed_file_is_refused_by_its_name(run: Run, finished_copy: Path) -> None:
    with (finished_copy / "net.py").open("a") as file:
        file.write("# one line more")

    ended = run("study", "--study", "tiny")

    assert ended.status == 2
    assert ended.err.startswith("optstudy: study 'tiny' was started with a different net.py; ")


@pytest.mark.parametrize("name", ["nobody", "tini"])
def test_a_study_that_is_not_there_is_refused_with_the_nearest(
    name: str, run: Run, finished_copy: Path
) -> None:
    ended = run("compare", "--study", name)

    assert ended.status == 2
    assert ended.line == (
        f"optstudy: no study {name!r} has final runs{suggestion(name, ['tiny'])}; there are tiny"
    )


def test_training_what_was_never_tuned_is_status_2_and_names_the_command(run: Run, user_files: Path) -> None:
    ended = run("train", "--opt", "sgd")

    assert ended.status == 2
    assert ended.line == (
        "optstudy: study 'main' has no best configuration of sgd yet;"
        " run: optstudy tune --study main --opt sgd"
    )


@pytest.mark.parametrize("place", ["tuning/studies", "tuning/studies/main"])
def test_a_folder_that_cannot_be_written_is_status_1(place: str, run: Run, user_files: Path) -> None:
    (user_files / place).parent.mkdir(exist_ok=True)
    (user_files / place).write_text("a file where a folder should be")

    ended = run("tune", "--opt", "sgd")

    assert ended.status == 1
    assert ended.line.startswith("optstudy: cannot write tuning/studies/main/lock: ")
    assert ended.line.endswith("; choose another --workspace")


def test_a_damaged_specification_is_status_1_and_names_the_file(run: Run, finished_copy: Path) -> None:
    path = finished_copy / "tuning" / "studies" / "tiny" / "specification.json"
    path.write_text(path.read_text()[:100])

    for command in ("study --study tiny", "status"):
        ended = run(*command.split())
        assert ended.status == 1
        assert ended.line.startswith(f"optstudy: {path.relative_to(finished_copy)} is damaged (")
        assert "; move it away and repeat the command that began the study" in ended.line


def test_a_damaged_database_is_status_1_and_names_the_file(run: Run, finished_copy: Path) -> None:
    embedded.database(finished_copy).write_bytes(b"no database" * 100)

    ended = run("compare")

    assert ended.status == 1
    assert ended.line.startswith(
        f"optstudy: {embedded.database(finished_copy)} cannot be read as a tracking database"
    )


def test_a_server_that_does_not_answer_is_status_1(
    run: Run, user_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stores.READ_PATIENCE <= 10  # seconds of a person who only wants to look
    monkeypatch.setattr(stores, "READ_PATIENCE", 0.2)
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        uri = f"http://me:secret@127.0.0.1:{probe.getsockname()[1]}"

    ended = run("compare", "--tracking-uri", uri)

    assert ended.status == 1
    assert ended.line.startswith("optstudy: the tracking server http://127.0.0.1:")
    assert "has not answered" in ended.line
    assert "secret" not in ended.line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"device": "cuda:63"}, "optstudy: device 'cuda:63' is not available; the available ones are cpu"),
        ({"dataset": "minst"}, "optstudy: 'minst' is not a data set (did you mean 'mnist'?)"),
    ],
)
def test_what_only_a_worker_can_find_out_is_one_line_too(
    changes: dict[str, str], message: str, run: Run, workspace: Path
) -> None:
    ended = run("tune", "--jobs", "1", *tiny.options(**changes))

    assert ended.status == 2
    assert ended.line.startswith(message)
    assert not (workspace / "tuning" / "studies" / "main" / "specification.json").exists()


@pytest.mark.parametrize("command", ["curvature", "reproduce"])
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("epochs", "three", "epochs is 'three'; it must be a whole number"),
        ("split", {"role": "final", "size": None}, "split.size is None; it must be a whole number"),
        ("method", 5, "method is 5; it must be an object"),
        ("batch", 25, "batch is unknown"),
    ],
)
def test_a_plan_with_a_value_of_the_wrong_kind_is_one_line(
    command: str, key: str, value: Any, said: str, finished_copy: Path, run: Run
) -> None:
    for path in embedded.artifacts(finished_copy).rglob("plan.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    drop_checksums(finished_copy)

    ended = run(command, "tiny/sgd/seed-0")

    assert ended.status == 1
    starts = "optstudy: plan.json of run ", "optstudy: tiny/sgd/seed-0 is damaged: its file plan.json"
    assert ended.err.splitlines()[-1].startswith(starts)
    assert said in ended.line
