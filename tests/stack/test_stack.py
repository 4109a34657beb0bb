"""The servers of compose.yaml let in whom they know, keep what a study writes, and give no password away."""

import base64
import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import tiny
from mlflow import MlflowClient
from stack.servers import Stack

from optstudy.errors import OptstudyError
from optstudy.tracking import Tracking

# The first to need the servers waits for them, twice STARTUP at most.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def studied(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose small study has been logged to the servers; what it printed is in output.txt."""
    folder = tmp_path_factory.mktemp("studied")
    tiny.write(folder)
    words = ("study", "--study", "kept", "--jobs", "1", *tiny.options(trials=2))
    done = stack.optstudy(*words, folder=folder)
    assert done.returncode == 0, done.stderr
    (folder / "output.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.mark.parametrize("path", ["/", "/version", "/api/2.0/mlflow/experiments/get?experiment_id=0"])
def test_only_the_admin_with_the_password_is_let_in(path: str, stack: Stack) -> None:
    password = stack.project.secret("mlflow_password")

    assert stack.status(path) == 401
    for wrong in (basic("admin", "password1234"), basic("admin", ""), basic("mlflow", password)):
        assert stack.status(path, Authorization=wrong) == 401
    assert stack.status(path, Authorization=basic("admin", password)) == 200


def test_artifacts_are_refused_to_strangers_too(stack: Stack) -> None:
    assert stack.status("/api/2.0/mlflow-artifacts/artifacts/0/some/artifacts/file") == 401
    assert stack.status("/get-artifact?run_id=some&path=file") == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "mlflow.evil.example:5000", "10.0.0.1:5000", "localhost.evil.example"]
)
def test_a_foreign_host_is_refused_even_with_the_password(host: str, stack: Stack) -> None:
    allowed = basic("admin", stack.project.secret("mlflow_password"))

    assert stack.status("/", Host=host, Authorization=allowed) == 403


@pytest.mark.parametrize(
    "host", ["mlflow", "mlflow:5000", "localhost", "localhost:5001", "127.0.0.1", "127.0.0.1:5000"]
)
def test_the_names_under_which_it_is_reached_are_answered(host: str, stack: Stack) -> None:
    allowed = basic("admin", stack.project.secret("mlflow_password"))

    assert stack.status("/", Host=host, Authorization=allowed) == 200


def test_its_health_is_open_to_the_engine(stack: Stack) -> None:
    assert stack.status("/health") == 200


def test_a_study_is_kept_by_the_servers_and_read_back(studied: Path, stack: Stack) -> None:
    compared = stack.optstudy("compare", "--study", "kept", "--json", folder=studied.parent)

    assert compared.returncode == 0, compared.stderr
    assert '"sgd"' in compared.stdout
    assert "note: " not in compared.stderr  # such as one of damage
    assert not (studied / "mlruns").exists()
    assert {"kept/tuning", "kept/final"} <= {*stack.select("select name from experiments")}
    assert stack.select("select username from users where is_admin") == ["admin"]  # accounts last as runs do


def test_artifacts_come_through_the_server(
    studied: Path, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(stack.home))
    client = MlflowClient(stack.address)
    experiment = client.get_experiment_by_name("kept/final")
    assert experiment is not None
    run = client.search_runs([experiment.experiment_id])[0].info

    weights = Path(client.download_artifacts(run.run_id, "weights.pt", str(tmp_path)))

    assert run.artifact_uri.startswith("mlflow-artifacts:/")
    [stored] = (stack.project.folder / "root/mlflow/home/optstudy/artifacts").rglob(
        f"{run.run_id}/**/weights.pt"
    )
    assert weights.read_bytes() == stored.read_bytes()


def test_no_password_is_seen_outside_its_file(studied: Path, stack: Stack) -> None:
    written = [stack.log, *(file for file in studied.rglob("*") if file.is_file())]
    places = {str(file): file.read_bytes() for file in written}
    places |= {f"{process}/cmdline": told(process, "cmdline") for process in processes()}
    secrets = stack.project.passwords()

    assert {"output.txt", "specification.json"} <= {file.name for file in written}
    assert any(b"--app-name=basic-auth" in text for text in places.values())
    assert [
        (place, n) for place, text in places.items() for n, s in enumerate(secrets) if s.encode() in text
    ] == []


def test_no_environment_of_the_server_has_a_password(stack: Stack) -> None:
    *passwords, _ = stack.project.passwords()  # the last, its key, has to stand there
    found = [told(process, "environ") for process in processes() if group(process) == stack.group]
    environments = [text for text in found if text]

    assert len(environments) > 2  # the server and its workers
    assert not any(word.encode() in text for word in passwords for text in environments)


@pytest.mark.parametrize(
    ("words", "password", "said"),
    [
        (
            ["study", *tiny.options()],
            None,
            "requires a user and a password: write them to ~/.mlflow/credentials,",
        ),
        (
            ["compare"],
            "wrong",
            "rejected user 'admin' with the password in ~/.mlflow/credentials; correct them",
        ),
    ],
)
def test_without_the_password_a_command_ends_in_one_line(
    words: list[str], password: str | None, said: str, stack: Stack, tmp_path: Path
) -> None:
    tiny.write(tmp_path)
    right = stack.project.secret("mlflow_password")
    if password:
        (tmp_path / ".mlflow").mkdir()
        written = stack.project.secret("credentials").replace(right, password)
        (tmp_path / ".mlflow" / "credentials").write_text(written)

    ended = stack.optstudy(*words, folder=tmp_path, HOME=str(tmp_path))

    assert ended.returncode == 1
    assert ended.stdout == ""
    line = ended.stderr.splitlines()[-1]  # a study says before how long it will take
    assert line.startswith(f"optstudy: MLflow at {stack.address} {said}")
    assert right not in ended.stderr
    assert "Traceback" not in ended.stderr


class TestInThisProcess:
    """Further refusals, of the same servers, without a command that takes seconds to start."""

    @pytest.fixture(autouse=True)
    def nobody(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("USERNAME", "PASSWORD", "TOKEN"):
            monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)

    def known(self, user: str, password: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)

    def test_a_wrong_password_of_the_environment_is_named_as_that(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.known("me", "not this", monkeypatch)

        with pytest.raises(
            OptstudyError, match="rejected user 'me' with the password in MLFLOW_TRACKING_PASSWORD;"
        ):
            Tracking(stack.address).studies()

    def test_a_wrong_password_of_the_address_is_named_but_not_shown(self, stack: Stack) -> None:
        address = stack.address.replace("//", "//me:not-this@")

        with pytest.raises(OptstudyError) as refused:
            Tracking(address).studies()

        assert str(refused.value) == (
            f"MLflow at {stack.address} rejected user 'me' with the password in its address; correct them"
        )

    def test_a_name_that_the_server_was_not_started_for_is_named(
        self, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.known("admin", stack.project.secret("mlflow_password"), monkeypatch)

        with pytest.raises(OptstudyError, match=re.escape("does not accept the host name 127.1: use a name")):
            Tracking(stack.address.replace("127.0.0.1", "127.1")).studies()

    def test_a_user_who_may_only_read_is_told_so(
        self, studied: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        account = {"username": "reader", "password": "a-password-for-reading"}
        made = requests.post(
            f"{stack.address}/api/2.0/mlflow/users/create",
            json=account,
            auth=("admin", stack.project.secret("mlflow_password")),
            timeout=60,
        )
        assert made.ok, made.text
        self.known("reader", account["password"], monkeypatch)
        tracking = Tracking(stack.address)
        [run, *_] = tracking.final_runs(["kept"])[0]

        with pytest.raises(OptstudyError, match="refused: reader may not do that: .*Permission denied"):
            tracking.set_tags(run.run_id, {"mine": "now"})

    def test_credentials_that_cannot_be_read_are_named(self, stack: Stack, tmp_path: Path) -> None:
        (tmp_path / ".mlflow" / "credentials").mkdir(parents=True)  # as for root there is no other such file

        with pytest.raises(OptstudyError, match="~/.mlflow/credentials cannot be read: Is a directory$"):
            Tracking(stack.address).studies()


def test_a_process_that_has_ended_tells_nothing() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    process = Path(f"/proc/{ended.pid}")

    assert [told(process, name) for name in ("cmdline", "environ", "stat")] == [b"", b"", b""]
    assert group(process) is None


def processes() -> list[Path]:
    """The processes of this machine, of which any may end before it is asked."""
    return [*Path("/proc").glob("[0-9]*")]


def told(process: Path, name: str) -> bytes:
    """What a file of /proc tells of a process; nothing where it has ended."""
    with contextlib.suppress(OSError):
        return (process / name).read_bytes()
    return b""


def group(process: Path) -> int | None:
    """A process's group: the third field after the name, which is in parentheses."""
    fields = told(process, "stat").rpartition(b")")[2].split()
    return int(fields[2]) if fields else None
