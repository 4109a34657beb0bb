"""PostgreSQL and MLflow as compose.yaml starts them, on loopback."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import Any

from components import postgresql
from stack.composed import Project, mounted, project

STARTUP = 200.0  # seconds; the first start makes all tables, and a busy machine is no failure


@dataclass(frozen=True)
class Postgres:
    """PostgreSQL, running."""

    port: int
    control: Sequence[str]  # pg_ctl for this server

    def restart(self) -> None:
        """End the server as a crash would, and start it again."""
        subprocess.run(
            [*self.control, "restart", "--mode=immediate"], cwd="/", check=True, stdout=subprocess.DEVNULL
        )


@dataclass(frozen=True)
class Stack:
    """Both servers, running."""

    project: Project
    postgres: Postgres
    address: str
    programs: Path  # of PostgreSQL
    environment: Mapping[str, str]  # of the MLflow server
    group: int  # of its processes
    home: Path  # with the credentials

    @property
    def log(self) -> Path:
        """What the MLflow server printed."""
        return self.project.folder / "mlflow.log"

    def status(self, path: str, **headers: str) -> int:
        """Ask for a page and return the status of the answer."""
        request = urllib.request.Request(self.address + path, headers=headers)  # noqa: S310  # our own server
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                code: int = answer.status
                return code
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def optstudy(self, *words: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run the command line as the service `optstudy` does."""
        asked = self.project.service("optstudy")["environment"]
        here = {name: value.replace("http://mlflow:5000", self.address) for name, value in asked.items()}
        return subprocess.run(
            [sys.executable, "-c", "from optstudy.cli import main; main()", *words],
            cwd=folder,
            env={**os.environ, **here, "HOME": str(self.home), **environment},
            check=False,
            text=True,
            capture_output=True,
        )

    def select(self, query: str) -> list[str]:
        """Ask the database."""
        asked = ["--no-psqlrc", "--tuples-only", "--no-align", "--command", query, "mlflow"]
        done = subprocess.run(
            [self.programs / "psql", *asked],
            env=self.environment,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
        )
        return str(done.stdout).split()


@contextlib.contextmanager
def served() -> Iterator[Stack]:
    """Start both servers in a folder of their own, which PostgreSQL's user may enter as no folder of pytest's."""
    postgresql()
    with tempfile.TemporaryDirectory(prefix="optstudy-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with started(project(folder)) as servers:
            yield servers


@contextlib.contextmanager
def started(project: Project) -> Iterator[Stack]:
    """Start what the services `postgres` and `mlflow` start."""
    programs = postgresql()
    with ExitStack() as ending:
        postgres = ending.enter_context(_postgres(project, programs))
        server = mounted(project, "mlflow")
        asked = project.service("mlflow")["environment"]
        environment = {
            **os.environ,
            **{name: server(value) for name, value in asked.items()},
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
        }
        database = project.service("postgres")["environment"]["POSTGRES_DB"]
        subprocess.run(
            [programs / "createdb", "--maintenance-db=postgres", database], env=environment, check=True
        )
        command = [server(word) for word in project.service("mlflow")["command"]]
        address, group = ending.enter_context(_mlflow(project, command, environment))
        home = mounted(project, "optstudy")("/home/optstudy")
        yield Stack(project, postgres, address, programs, environment, group, Path(home))


@contextlib.contextmanager
def _postgres(project: Project, programs: Path) -> Iterator[Postgres]:
    """Do what the image's entrypoint does, and serve on loopback."""
    here, service, port = mounted(project, "postgres"), project.service("postgres"), _free_port()
    asked = {name: here(value) for name, value in service["environment"].items()}
    data, password = Path(asked["PGDATA"]), project.folder / "postgres-password"
    shutil.copy(asked["POSTGRES_PASSWORD_FILE"], password)
    as_user: list[str] = []
    if os.getuid() == 0:  # whom PostgreSQL refuses
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for path in (data.parent, password):
            shutil.chown(path, "postgres", "postgres")
    options = ["-D", str(data), "-U", asked["POSTGRES_USER"], f"--pwfile={password}", "--no-sync"]
    subprocess.run(
        [*as_user, programs / "initdb", *options, *asked["POSTGRES_INITDB_ARGS"].split()],
        cwd="/",  # initdb looks for its own folder, which may be closed to that user
        check=True,
        stdout=subprocess.DEVNULL,
    )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
    flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    words = [*as_user, str(programs / "postgres"), "-D", str(data), "-p", str(port), *flags]
    _, program, *check = service["healthcheck"]["test"]
    with _running(words, project.folder / "postgres.log", signal.SIGINT, cwd="/") as server:
        _wait([str(programs / program), *check, f"--port={port}"], server)
        control = [*as_user, str(programs / "pg_ctl"), f"--pgdata={data}", f"--log={data / 'log'}"]
        try:
            yield Postgres(port, control)
        finally:
            if server.poll() is not None:  # it was restarted
                subprocess.run([*control, "stop"], cwd="/", check=True, stdout=subprocess.DEVNULL)


@contextlib.contextmanager
def _mlflow(
    project: Project, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[tuple[str, int]]:
    port, service = _free_port(), project.service("mlflow")
    ours = {"--host=0.0.0.0": "--host=127.0.0.1", "--port=5000": f"--port={port}"}
    assert ours.keys() <= set(command)
    [program] = service["entrypoint"]
    words = [str(Path(sys.executable).with_name(program)), *(ours.get(word, word) for word in command)]
    _, _, *check = service["healthcheck"]["test"]
    log = project.folder / "mlflow.log"
    with _running(words, log, signal.SIGTERM, env=environment) as server:
        _wait([sys.executable, *(word.replace(":5000", f":{port}") for word in check)], server)
        yield f"http://127.0.0.1:{port}", server.pid


@contextlib.contextmanager
def _running(
    words: Sequence[str], log: Path, end: signal.Signals, **options: Any
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a server with its children in a process group, whose end it is told, then made to meet."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            words, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options
        )
    try:
        yield server
    finally:
        for kind in (end, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, kind)
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=20)


def _wait(check: Sequence[str], server: "subprocess.Popen[bytes]") -> None:
    """Wait until a health check succeeds."""
    until = time.monotonic() + STARTUP
    while subprocess.run(check, check=False, capture_output=True).returncode != 0:
        assert server.poll() is None, f"{server.args!r} ended with status {server.returncode}"
        assert time.monotonic() < until, f"{server.args!r} does not answer"
        time.sleep(0.5)


def _free_port() -> int:
    with closing(create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
