"""How rows and runs are named."""

import pytest

from optstudy.errors import UsageError
from optstudy.records.naming import RowKey, RunId, check_file_name, check_name


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


@pytest.mark.parametrize("name", ["mnist", "my-own.v2", "0", "A_b"])
def test_a_name_of_letters_and_digits_is_a_name(name: str) -> None:
    check_name("study", name)


@pytest.mark.parametrize(
    "name", ["", ".", "../x", "a/b", "-a", "a b", "a\n", "[/red]", "=1", "<b>", "\x1b[31m", "ä"]
)
def test_a_name_that_could_be_a_path_an_option_or_markup_is_refused(name: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_name("study", name)

    assert str(raised.value).startswith(f"study name {name!r}: use letters, digits")


@pytest.mark.parametrize("name", ["sgd", "sgd + momentum", "a<b>&c", "優化"])
def test_an_optimizer_has_the_name_of_any_visible_file(name: str) -> None:
    check_file_name("optimizer", name)


@pytest.mark.parametrize("name", ["", ".", "..", "../sgd", "/etc/sgd", "a\nb", "\x1b[31m", "\u202e"])
def test_an_optimizer_is_not_named_by_a_path_or_by_what_a_terminal_interprets(name: str) -> None:
    with pytest.raises(UsageError, match="^optimizer name .*: use printable characters"):
        check_file_name("optimizer", name)
