"""`optstudy rehearse` proves that a study can run, and writes nothing."""

import json
from pathlib import Path

import pytest
import tiny
from commands import Run

SETTINGS = ["--study", "mine", "--jobs", "1", *tiny.options(samples=20, eigen_last=4)]


def test_what_was_proved_is_printed_and_nothing_is_written(run: Run, user_files: Path) -> None:
    ended = run("rehearse", *SETTINGS)

    assert ended.status == 0
    title, *proofs = ended.out.splitlines()
    assert title.startswith("sgd: proved in ")
    assert proofs[1:] == [
        (
            "  - it trains on the first and the last mini-batch of a final run (25 and 25 of 300 examples) and of a"
            " trial (25 and 15 of 240 examples)"
        ),
        "  - the weights move, and 14 steps give the same bits as 7, a file and 7 more",
        "  - a second pass over the data gives the same outputs",
        "  - a step succeeds at each end of a range and with each choice, 10 configurations",
        "  - a Hessian product can be computed in the model's precision and in float64",
    ]
    assert ended.err.startswith("next: optstudy study --study mine --jobs 1 --set ")
    assert sorted(path.name for path in (user_files / "tuning").iterdir()) == ["spaces"]
    assert not (user_files / "mlruns").exists()


def test_a_rehearsal_is_printed_as_json(run: Run, user_files: Path) -> None:
    rehearsed = json.loads(run("rehearse", *SETTINGS, "--json").out)

    assert rehearsed["sgd"]["parameters"] == 64 * 16 + 16 + 16 * 3 + 3
    assert len(rehearsed["sgd"]["proved"]) == 6


@pytest.mark.parametrize("command", ["rehearse", "study"])
def test_data_that_change_are_refused_before_anything_is_spent(
    run: Run, user_files: Path, command: str
) -> None:
    (user_files / "images.py").write_text(tiny.IMAGES.replace(".manual_seed(seed)", "; generator.seed()"))

    ended = run(command, *SETTINGS)

    assert ended.status == 2
    assert ended.line.startswith(
        "optstudy: images.py:load returned different data than before; it must return the"
    )


def test_a_model_that_seeds_itself_is_said(run: Run, user_files: Path) -> None:
    (user_files / "net.py").write_text(
        "import torch\n" + tiny.NET.replace("    return", "    torch.manual_seed(0)\n    return")
    )

    ended = run("rehearse", *SETTINGS)

    assert "note: model 'net.py:make' starts from the same weights whatever the seed" in ended.err


def test_two_optimizers_that_fail_for_their_own_reasons_have_a_line_each(run: Run, user_files: Path) -> None:
    for name in ("first", "second"):
        (user_files / f"{name}.py").write_text(
            f"import torch\n\n\nclass Own(torch.optim.SGD):\n    def step(self):\n        raise OSError('{name}')\n"
        )
        space = f'optimizer = "{name}.py:Own"\n\n[search.lr]\nlow = 0.1\nhigh = 0.2\nwhy = "x"\n\n[default]\nlr = 0.1\n'
        (user_files / "tuning" / "spaces" / f"{name}.toml").write_text(space)

    ended = run("rehearse", *SETTINGS[:4], *tiny.options(samples=20, optimizers=("first", "second")))

    assert ended.status == 1
    first, second = ended.err.splitlines()
    assert first.startswith("optstudy: the first steps of first ")
    assert second.startswith("the first steps of second ")
