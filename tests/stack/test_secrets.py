"""`make secrets` makes what compose.yaml needs, once, for one reader."""

import stat
from pathlib import Path

from stack.composed import REPOSITORY, Project, make_secrets


def contents(folder: Path) -> dict[str, str]:
    files = [*(folder / "secrets").iterdir(), folder / ".env"]
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def test_only_the_user_of_the_containers_reads_the_secrets(compose: Project) -> None:
    [line] = (compose.folder / ".env").read_text().splitlines()
    owner = line.removeprefix("OPTSTUDY_USER=")
    files = [*(compose.folder / "secrets").iterdir()]

    assert {service["user"] for service in compose.compose["services"].values()} == {owner}
    assert not owner.startswith("0:")  # PostgreSQL refuses root
    for path, mode in {**dict.fromkeys(files, 0o600), compose.folder / "secrets": 0o700}.items():
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert f"{path.stat().st_uid}:{path.stat().st_gid}" == owner
    workspace = (compose.folder / "workspace").stat()
    assert f"{workspace.st_uid}:{workspace.st_gid}" == owner


def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPTSTUDY_PORT=5001\n")
    make_secrets(tmp_path)
    (tmp_path / "workspace" / "net.py").touch()
    before = contents(tmp_path)

    make_secrets(tmp_path)

    assert contents(tmp_path) == before
    assert before[".env"].startswith("OPTSTUDY_PORT=5001\nOPTSTUDY_USER=")


def test_a_lost_file_is_made_again_with_the_same_password(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    before = contents(tmp_path)
    for name in ("pgpass", "credentials", "mlflow_auth.ini"):
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
