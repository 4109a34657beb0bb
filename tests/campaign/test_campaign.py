"""Whatever befalls a study: the same command goes on to the bits of one left alone, and nothing is left behind.

`make campaign` strikes more than 200 times, at moments drawn from OPTSTUDY_CAMPAIGN_SEED (0 by default), and prints
a table of what it found.
"""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from socket import create_server

import pytest
from campaign.blows import KILLS, SIGNALS, kill_driver, kill_group
from campaign.conftest import LeftAlone, sqlite
from campaign.disks import mounted, suffer_on
from campaign.server import Server
from campaign.subject import SEED, Strike, Subject
from execution.machines import actors, cluster, until
from stack.servers import served

from optstudy.tracking import embedded

Examine = Callable[..., None]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def studies(number: int) -> pytest.MarkDecorator:
    """Repeat a test with so many studies in the campaign."""
    return pytest.mark.parametrize(
        "study", [pytest.param(study, marks=pytest.mark.campaign) for study in range(number)]
    )


def moments(draw: random.Random, number: int) -> list[float]:
    """Draw moments as fractions of a study's files; some fall before it has any, while it starts."""
    return [draw.uniform(-0.1, 0.95) for _ in range(number)]


def in_turn(*strikes: Strike) -> Strike:
    """Strike in one way after the other."""
    waiting = iter(strikes)

    def strike(subject: Subject, draw: random.Random) -> None:
        next(waiting)(subject, draw)

    return strike


def test_a_study_that_is_killed_and_interrupted_ends_as_if_left_alone(
    subject: Subject, examine: Examine
) -> None:
    blows = in_turn(KILLS["SIGKILL workers"], KILLS["SIGKILL driver"], SIGNALS["SIGINT twice"])

    subject.suffer(blows, [0.2, 0.4, 0.7], random.Random(SEED))

    examine("a kill of each", subject)


@studies(6)
@pytest.mark.parametrize("kind", KILLS)
def test_killed_at_any_moment(kind: str, study: int, subject: Subject, examine: Examine) -> None:
    draw = random.Random(f"{SEED} {kind} {study}")
    subject.options = ("--jobs", str(draw.choice([1, 2])))

    subject.suffer(KILLS[kind], moments(draw, 10), draw)

    examine(kind, subject)


@studies(2)
@pytest.mark.parametrize("kind", SIGNALS)
def test_interrupted_at_any_moment(kind: str, study: int, subject: Subject, examine: Examine) -> None:
    draw = random.Random(f"{SEED} {kind} {study}")

    subject.suffer(SIGNALS[kind], moments(draw, 5), draw)

    examine(kind, subject)


@pytest.fixture
def server(empty_store: Path, tmp_path: Path, subject: Subject) -> Iterator[Server]:
    """An MLflow server to which the study logs."""
    shutil.rmtree(subject.folder / "mlruns")
    with closing(create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
    with Server(Path(shutil.copytree(empty_store, tmp_path / "server")), port) as running:
        subject.options = (*subject.options, "--tracking-uri", running.address)
        subject.store = running.folder
        yield running


@studies(3)
def test_whose_server_is_killed(study: int, subject: Subject, server: Server, examine: Examine) -> None:
    draw = random.Random(f"{SEED} server {study}")

    subject.suffer(server.kill, moments(draw, 8), draw)

    examine("SIGKILL server", subject, uri=embedded.uri(server.folder), select=sqlite(server.folder))


@studies(1)
def test_killed_while_it_logs_to_a_server(
    study: int, subject: Subject, server: Server, examine: Examine
) -> None:
    draw = random.Random(f"{SEED} with server {study}")

    subject.suffer(draw.choice([kill_driver, kill_group]), moments(draw, 10), draw)

    examine("SIGKILL with a server", subject, uri=embedded.uri(server.folder), select=sqlite(server.folder))


@studies(2)
def test_whose_disk_is_full(study: int, subject: Subject, examine: Examine) -> None:
    draw = random.Random(f"{SEED} full {study}")

    with mounted(subject.folder, "mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as disk:
        suffer_on(disk, subject, disk.fill, moments(draw, 6), draw)

    examine("full disk", subject)


@studies(2)
def test_whose_disk_becomes_read_only(study: int, subject: Subject, tmp_path: Path, examine: Examine) -> None:
    draw = random.Random(f"{SEED} read-only {study}")
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(96 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)

    options = ("-o", "loop,errors=remount-ro", str(image))
    with mounted(subject.folder, "mount", *options) as disk:
        suffer_on(disk, subject, disk.fail, moments(draw, 4), draw)

    examine("read-only disk", subject)


@studies(2)
def test_whose_clock_is_set_back(
    study: int, subject: Subject, clock: Path, tmp_path: Path, examine: Examine
) -> None:
    draw = random.Random(f"{SEED} clock {study}")
    back = tmp_path / "back"
    subject.environment = {"LD_PRELOAD": str(clock), "OPTSTUDY_CLOCK": str(back)}

    def strike(struck: Subject, draw: random.Random) -> None:
        back.touch()
        if draw.random() < 0.5:
            struck.wait(draw.uniform(0, 2))
            kill_group(struck, draw)

    subject.suffer(strike, moments(draw, 4), draw)

    examine("clock set back", subject)


@studies(1)
def test_whose_servers_database_is_restarted(
    study: int, subject: Subject, left_alone: LeftAlone, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(f"{SEED} PostgreSQL {study}")
    shutil.rmtree(subject.folder / "mlruns")
    subject.total = sum(name.startswith("tuning/") for name in left_alone.files)

    def strike(struck: Subject, draw: random.Random) -> None:
        stack.postgres.restart()

    with served() as stack:
        monkeypatch.setenv("HOME", str(stack.home))  # where the password is
        subject.options = (*subject.options, "--tracking-uri", stack.address)
        subject.suffer(strike, moments(draw, 4), draw)

        examine(
            "restart of PostgreSQL",
            subject,
            uri=stack.address,
            select=lambda query: int(stack.select(query)[0]),
        )


@studies(1)
def test_whose_nodes_of_a_ray_cluster_are_restarted(study: int, subject: Subject, examine: Examine) -> None:
    draw = random.Random(f"{SEED} Ray {study}")
    with cluster() as machines:
        nodes = [machines.add(num_cpus=1), machines.add(num_cpus=1)]
        subject.options = ("--ray", machines.address)

        def strike(struck: Subject, draw: random.Random) -> None:
            machines.lose(nodes.pop(draw.randrange(2)))
            nodes.append(machines.add(num_cpus=1))

        subject.suffer(strike, moments(draw, 4), draw)
        until(lambda: not any(actors(node) for node in nodes))

    examine("restart of a Ray node", subject)
