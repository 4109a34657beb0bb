"""How rows and runs are named."""

import pytest

from optstudy.records.naming import RowKey, RunId


def test_final_runs_of_the_best_configuration_have_the_short_name() -> None:
    assert RunId("mnist", "sgd", "best", 0).name == "sgd/seed-0"
    assert RunId("mnist", "sgd", "paper", 3).name == "sgd/paper/seed-3"
    assert str(RunId("mnist", "sgd", "paper", 3)) == "mnist/sgd/paper/seed-3"


def test_a_row_is_named_by_optimizer_and_configuration() -> None:
    assert str(RowKey("mnist", "sgd", "best")) == "sgd/best"
    assert f"{RowKey('mnist', 'my_own.v2', 'paper')}" == "my_own.v2/paper"
    assert RunId("mnist", "sgd", "paper", 3).row == RowKey("mnist", "sgd", "paper")


@pytest.mark.parametrize("config", ["best", "paper", "default"])
@pytest.mark.parametrize("seed", [0, 12])
def test_a_runs_name_is_read_back(config: str, seed: int) -> None:
    run = RunId("mnist", "my-own.v2", config, seed)

    assert RunId.parse("mnist", run.name) == run


@pytest.mark.parametrize("name", ["sgd", "sgd/003", "sgd/seed-", "sgd/seed-x", "/seed-1", "a/b/c/seed-1", ""])
def test_other_names_are_no_final_runs(name: str) -> None:
    assert RunId.parse("mnist", name) is None
