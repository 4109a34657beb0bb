"""`make secrets` makes what compose.yaml needs, once, for one reader."""

import os
import stat
from pathlib import Path

import pytest
from stack.composed import REPOSITORY, Project, make_secrets


def contents(folder: Path) -> dict[str, str]:
    files = [*(folder / "secrets").iterdir(), folder / ".env"]
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def owner(path: Path) -> str:
    return f"{path.stat().st_uid}:{path.stat().st_gid}"


def test_only_the_user_of_the_containers_reads_the_secrets(compose: Project) -> None:
    [line] = (compose.folder / ".env").read_text().splitlines()
    user = line.removeprefix("OPTSTUDY_USER=")
    files = [*(compose.folder / "secrets").iterdir()]

    assert {service["user"] for service in compose.compose["services"].values()} == {user}
    assert not user.startswith("0:")  # PostgreSQL refuses root
    for path, mode in {**dict.fromkeys(files, 0o600), compose.folder / "secrets": 0o700}.items():
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert owner(path) == user
    assert owner(compose.folder / "workspace") == user


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPTSTUDY_PORT=5001\n")
    make_secrets(tmp_path)
    (tmp_path / "workspace" / "net.py").touch()
    before = contents(tmp_path)

    make_secrets(tmp_path)

    assert contents(tmp_path) == before
    assert before[".env"].startswith("OPTSTUDY_PORT=5001\nOPTSTUDY_USER=")


@pytest.mark.parametrize("text", ["OPTSTUDY_PORT=5001", "OPTSTUDY_USER=\nOPTSTUDY_PORT=5001"])
def test_the_user_gets_a_line_of_its_own_whatever_the_file_ends_with(tmp_path: Path, text: str) -> None:
    (tmp_path / ".env").write_text(text)

    make_secrets(tmp_path)

    *lines, last = (tmp_path / ".env").read_text().splitlines()
    assert lines == text.splitlines()
    assert last == f"OPTSTUDY_USER={owner(tmp_path / 'secrets')}"


def test_the_files_go_to_the_user_that_is_named_already(tmp_path: Path) -> None:
    user = "4321:4321" if os.getuid() == 0 else owner(tmp_path)  # others give no files away
    (tmp_path / ".env").write_text(f"OPTSTUDY_USER={user}\n")

    make_secrets(tmp_path)

    assert contents(tmp_path)[".env"] == f"OPTSTUDY_USER={user}\n"
    made = [tmp_path / "secrets", *(tmp_path / "secrets").iterdir(), tmp_path / "workspace"]
    assert {owner(path) for path in made} == {user}


def test_no_variable_of_the_caller_gives_other_files_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets(tmp_path)
    (tmp_path / "mine").touch()
    for name in ("made", "named", "user", "found"):
        monkeypatch.setenv(name, "mine")

    make_secrets(tmp_path)

    assert owner(tmp_path / "mine") == f"{os.getuid()}:{os.getgid()}"


@pytest.mark.parametrize(
    "lost",
    [
        ("pgpass", "credentials", "mlflow_auth.ini"),
        ("postgres_password", "mlflow_password"),
        ("mlflow_password", "mlflow_auth.ini"),
        ("mlflow_password", "credentials"),
    ],
)
def test_a_lost_file_is_made_again_with_the_same_password(tmp_path: Path, lost: tuple[str, ...]) -> None:
    make_secrets(tmp_path)
    before = contents(tmp_path)
    for name in lost:
        (tmp_path / "secrets" / name).unlink()

    make_secrets(tmp_path)

    assert contents(tmp_path) == before


def test_no_two_secrets_are_alike_or_short(tmp_path: Path, compose: Project) -> None:
    make_secrets(tmp_path)
    made = [*compose.passwords(), *Project(tmp_path, {}).passwords()]

    assert len(set(made)) == 6
    assert all(len(secret) == 48 for secret in made)


def test_no_secret_is_printed(tmp_path: Path) -> None:
    done = make_secrets(tmp_path)

    assert done.stdout == ""
    assert "secrets/mlflow_password" in done.stderr
    assert not any(secret in done.stderr for secret in Project(tmp_path, {}).passwords())


def test_git_is_told_of_none_of_it(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    made = {f"{path.name}/" if path.is_dir() else path.name for path in tmp_path.iterdir()}
    copied = {"compose.yaml", "deploy/"}

    assert made - copied <= set((REPOSITORY / ".gitignore").read_text().splitlines())
