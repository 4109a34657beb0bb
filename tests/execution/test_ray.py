"""On a Ray cluster a study gives the bits of this machine, whatever dies meanwhile; only a safe one is joined."""

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
from execution.machines import Machines, actors, cluster, raylet, until
from outcomes import outcome, rung_files

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Task, run_all
from optstudy.execution.local import ALLOCATOR, ATTEMPTS
from optstudy.execution.ray import RayWorkers, connect, workers
from optstudy.execution.ray import node as node_module
from optstudy.study.driver import Study

OPTSTUDY = Path(node_module.__file__).parents[2]
REMEDY = "install the same version, and keep no copy in the folder of the study"

DRIVER = """
import sys, time
import jobs
from optstudy.execution.ray import RayWorkers
from optstudy.execution.flows import Task

workers = RayWorkers(sys.argv[1], "cpu", 1)
workers.submit(0, Task(jobs.once_forever, ("pid",)))
workers.next_result()
"""

OPEN = """
import sys
from pathlib import Path
from ray.cluster_utils import Cluster

args = {"num_cpus": 0, "include_dashboard": False, "node_ip_address": "127.0.0.1", "temp_dir": sys.argv[1]}
cluster = Cluster(initialize_head=True, head_node_args=args)
Path(sys.argv[1], "written").write_text(cluster.address)
Path(sys.argv[1], "written").rename(Path(sys.argv[1], "address"))
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """A cluster that asks for a token, without a node that works."""
    with cluster() as made:
        yield made


@pytest.fixture
def node(machines: Machines) -> Iterator[Any]:
    """A node with one core."""
    added = machines.add(num_cpus=1)
    yield added
    machines.remove(added)


@pytest.fixture
def worker(machines: Machines, node: Any, jobs: ModuleType) -> Iterator[RayWorkers]:
    with RayWorkers(machines.address, "cpu", 1) as found:
        yield found


def test_tasks_run_on_the_nodes_with_the_environment_that_they_need(
    jobs: ModuleType, worker: RayWorkers, capfd: pytest.CaptureFixture[str]
) -> None:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPTSTUDY_WORKER", *ALLOCATOR)
    tasks = [Task(jobs.double, (x,)) for x in range(3)]

    assert run_all([*tasks, Task(jobs.environment, names)], worker) == [
        0,
        2,
        4,
        ["1", "1", "1", *ALLOCATOR.values()],
    ]
    assert len(worker) == 1
    assert capfd.readouterr().out == ""


def test_failing_tasks_end_as_they_do_on_local_workers(jobs: ModuleType, worker: RayWorkers) -> None:
    worker.submit(5, Task(jobs.wrong, ()))
    ticket, failure = worker.next_result()
    assert (ticket, str(failure)) == (5, "ValueError: first line")
    assert "in wrong" in failure.details

    worker.submit(6, Task(jobs.unpicklable, ()))
    assert "pickle" in str(worker.next_result()[1])

    worker.submit(7, Task(jobs.die, (), name="the first steps of mine"))
    _, failure = worker.next_result()
    assert isinstance(failure, OptstudyError)
    assert str(failure).startswith(f"a worker died {ATTEMPTS} times during the first steps of mine")
    assert run_all([Task(jobs.double, (1,))], worker) == [2]


def test_tasks_of_higher_cost_start_first(jobs: ModuleType, worker: RayWorkers, tmp_path: Path) -> None:
    log, gate = str(tmp_path / "log"), str(tmp_path / "gate")
    assert run_all([Task(jobs.double, (1,))], worker) == [2]
    worker.submit(0, Task(jobs.wait_for, (gate,)))
    for ticket, (word, cost) in enumerate([("cheap", 1.0), ("dear", 9.0), ("fair", 5.0)], 1):
        worker.submit(ticket, Task(jobs.note, (log, word), cost))
    Path(gate).touch()

    assert [worker.next_result()[0] for _ in range(4)] == [0, 2, 3, 1]
    assert Path(log).read_text().split() == ["dear", "fair", "cheap"]


def test_a_lost_node_costs_the_tasks_it_was_at_and_one_that_joins_takes_them(
    jobs: ModuleType, machines: Machines, node: Any, worker: RayWorkers, capfd: pytest.CaptureFixture[str]
) -> None:
    worker.submit(0, Task(jobs.double, (4,), cost=1.0))
    worker.submit(1, Task(jobs.once_forever, ("pid",)))
    assert worker.next_result() == (0, 8)
    jobs.wait_for("pid")

    machines.lose(node)
    other = machines.add(num_cpus=1)

    assert worker.next_result() == (1, "again")
    assert capfd.readouterr().out == ""  # Ray tells of the node on standard output, where tables belong
    worker.close()
    machines.remove(other)


def test_a_node_that_joins_gets_a_worker(jobs: ModuleType, machines: Machines, worker: RayWorkers) -> None:
    other = machines.add(num_cpus=1)
    pair = ["one", "two"]

    found = run_all([Task(jobs.meet, (mine, pair)) for mine in pair], worker)

    assert len({parent for _, parent in found}) == 2
    worker.close()
    machines.remove(other)


@pytest.mark.slow
def test_idle_workers_that_are_lost_with_their_node_do_not_end_the_work_of_another(
    jobs: ModuleType, machines: Machines
) -> None:
    lost, kept = machines.add(num_cpus=4), machines.add(num_cpus=1)
    names = ["a", "b", "c", "d", "e"]
    with RayWorkers(machines.address, "cpu", 1) as found, ThreadPoolExecutor(1) as aside:
        for ticket, name in enumerate(names):
            found.submit(ticket, Task(jobs.one_stays, (name, names, raylet(lost))))
        assert [found.next_result()[1] for _ in names[1:]] == ["free"] * 4
        [slow] = actors(kept)
        os.kill(slow, signal.SIGSTOP)  # so that the dead answer first

        machines.lose(lost)
        last = aside.submit(found.next_result)
        until(lambda: len(found) == 1 or last.done())
        os.kill(slow, signal.SIGCONT)

        assert last.result()[1] == "free"
    machines.remove(kept)


def test_a_cluster_where_no_worker_starts_ends_the_work_in_one_line(
    jobs: ModuleType, machines: Machines, tmp_path: Path
) -> None:
    node = machines.add(num_cpus=2)
    shadow = tmp_path / "optstudy"
    shadow.mkdir()
    (shadow / "__init__.py").write_text("raise RuntimeError('a broken one')")

    with RayWorkers(machines.address, "cpu", 1) as found, pytest.raises(OptstudyError) as raised:
        run_all([Task(jobs.double, (1,))], found)

    assert re.fullmatch("no worker starts on the Ray cluster: .*a broken one.*", str(raised.value))
    machines.remove(node)


@pytest.mark.slow
def test_gpus_are_dealt_out_one_a_worker_and_shared_where_more_are_asked_for(
    jobs: ModuleType, machines: Machines
) -> None:
    nodes = [machines.add(num_cpus=4, num_gpus=1), machines.add(num_cpus=4, num_gpus=1)]
    for asked, names in ((None, ["a", "b"]), (4, ["c", "d", "e", "f"])):
        with RayWorkers(machines.address, "cuda", 1, asked) as found:
            seen = run_all([Task(jobs.meet, (mine, names)) for mine in names], found)

            assert len(found) == len(names)
        assert [gpu for gpu, _ in seen] == ["0"] * len(names)
        places = [parent for _, parent in seen]
        assert {places.count(place) for place in places} == {len(names) // 2}
    machines.remove(*nodes)


def test_a_killed_driver_takes_its_workers_with_it(jobs: ModuleType, machines: Machines, node: Any) -> None:
    assert jobs
    Path("driver.py").write_text(DRIVER)
    driver = subprocess.Popen([sys.executable, "driver.py", machines.address])
    jobs.wait_for("pid")
    assert actors(node) == [int(Path("pid").read_text())]

    driver.kill()
    driver.wait()

    until(lambda: not actors(node))


def test_no_worker_for_long_is_an_error(
    jobs: ModuleType, machines: Machines, node: Any, worker: RayWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "TIMEOUT", 0.0)
    worker.submit(0, Task(jobs.once_forever, ("pid",)))
    machines.lose(node)

    with pytest.raises(OptstudyError, match="the Ray cluster has had no worker"):
        worker.next_result()


def test_a_node_with_other_versions_ends_the_work_in_one_line(
    machines: Machines, node: Any, jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert node
    monkeypatch.setattr(node_module, "_versions", lambda: {"python": "3.99", "torch": "0.1", "optstudy": "0"})

    with RayWorkers(machines.address, "cpu", 1) as found, pytest.raises(UsageError) as raised:
        run_all([Task(jobs.double, (1,))], found)

    assert re.fullmatch(
        r"node \S+ has python 3\.\d+\.\d+, but the driver has 3\.99; install the same", str(raised.value)
    )


def test_another_optstudy_in_the_folder_of_the_study_is_not_run(
    machines: Machines, node: Any, jobs: ModuleType, tmp_path: Path
) -> None:
    assert node
    shadow = tmp_path / "optstudy"
    shutil.copytree(OPTSTUDY, shadow, ignore=shutil.ignore_patterns("_tuning", "__pycache__"))
    with (shadow / "training" / "__init__.py").open("a") as file:
        file.write("# other code\n")

    with RayWorkers(machines.address, "cpu", 1) as found, pytest.raises(UsageError) as raised:
        run_all([Task(jobs.double, (1,))], found)

    assert re.fullmatch(
        rf"node \S+ has a different optstudy in {shadow} than the driver; {REMEDY}", str(raised.value)
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"folder": "/nowhere"}, "no folder /nowhere; put it on a file system that all nodes share"),
        ({"data_dir": "photos"}, "no data folder photos; put it on a file system that all nodes share"),
        (
            {"environment": {"code": "0"}},
            f"a different optstudy in {OPTSTUDY} than the driver; {REMEDY}",
        ),
        ({"sources": {"net.py": "0"}}, "a different net.py"),
        ({}, ""),
    ],
)
def test_a_difference_of_a_node_is_described_in_one_line(
    user_files: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], said: str
) -> None:
    assert user_files
    monkeypatch.setattr(sys, "path", [*sys.path])
    references = ("net.py:make", "torch.optim.SGD", "mnist")
    driver = node_module.describe_machine(references)
    folders = {"folder": str(user_files), "data_dir": None}
    given = {**folders, **{name: value for name, value in change.items() if name in folders}}
    changed = {name: value for name, value in change.items() if name not in folders}

    assert node_module.difference(replace(driver, **changed), **given, references=references) == said


def test_a_data_folder_that_the_driver_lacks_is_not_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert node_module.existing_folder("data") is None

    (tmp_path / "data").mkdir()
    assert node_module.existing_folder("data") == "data"


@pytest.mark.parametrize("mode", [None, "disabled"])
def test_no_cluster_is_joined_without_a_token(monkeypatch: pytest.MonkeyPatch, mode: str | None) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)

    for address in ("auto", "127.0.0.1:6379"):
        with pytest.raises(UsageError, match="set RAY_AUTH_MODE=token on this machine and where"):
            RayWorkers(address, "cpu", 1)


def test_a_cluster_that_takes_anyone_is_not_joined(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short
    address = other / "address"
    opened = subprocess.Popen(
        [sys.executable, "-c", OPEN, str(other)],
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        stdin=subprocess.PIPE,
    )
    until(lambda: address.exists() or opened.poll() is not None)

    try:
        with pytest.raises(UsageError, match="accepts clients without a token; restart it"):
            RayWorkers(address.read_text(), "cpu", 1)
    finally:
        opened.communicate()
        shutil.rmtree(other)


def test_a_cluster_that_does_not_say_whether_it_takes_anyone_is_not_joined(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RAY_AUTH_MODE') == 'disabled':\n    os._exit(3)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    with pytest.raises(UsageError) as raised:
        RayWorkers(machines.address, "cpu", 1)

    assert str(raised.value) == (
        f"the Ray cluster at {machines.address} did not report whether it accepts clients without a token:"
        " Ray ended with status 3; run the same command again to retry"
    )


@pytest.mark.parametrize(
    ("printed", "said"),
    [("", "Ray ended with status 3"), ("no room", "no room"), ("Error: no room", "no room")],
)
def test_ray_that_fails_in_whatever_words_is_not_taken_for_joined(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, printed: str, said: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import os, sys\nsys.stderr.write({printed!r})\nsys.stderr.flush()\nos._exit(3)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")

    with pytest.raises(UsageError) as raised:
        RayWorkers("127.0.0.1:1", "cpu", 1)

    assert str(raised.value) == f"no Ray cluster could be joined at 127.0.0.1:1: {said}"


def test_a_wrong_token_is_named_in_the_error(
    machines: Machines, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))

    with pytest.raises(UsageError) as raised:
        RayWorkers(machines.address, "cpu", 1)

    assert str(raised.value) == (
        f"no Ray cluster could be joined at {machines.address}: it rejected the token"
    )


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("auto", "no Ray cluster could be joined at auto: "),
        ("127.0.0.1:1", "no Ray cluster could be joined at 127.0.0.1:1: no answer within 2 seconds"),
        ("local", "--ray takes auto or HOST:PORT of a Ray cluster, not 'local'"),
        (
            "ray://127.0.0.1:10001",
            "--ray takes auto or HOST:PORT of a Ray cluster, not 'ray://127.0.0.1:10001'",
        ),
    ],
)
def test_a_wrong_address_is_an_error_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, said: str
) -> None:
    (tmp_path / "token").write_text(secrets.token_hex(32))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(connect, "TIMEOUT", 2.0)

    with pytest.raises(UsageError) as raised:
        RayWorkers(address, "cpu", 1)

    assert str(raised.value).startswith(said)
    assert "\n" not in str(raised.value)


def test_a_gpu_by_number_and_a_cluster_without_room_are_refused(
    machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="use the device cuda, not cuda:1"):
        RayWorkers(machines.address, "cuda:1", 1)
    with pytest.raises(UsageError, match="no node of the Ray cluster has 3 CPU and a GPU for a worker"):
        RayWorkers(machines.address, "cuda", 3)


def test_workers_that_cannot_be_asked_for_leave_the_program_outside_the_cluster(machines: Machines) -> None:
    with pytest.raises(ValueError, match="num_cpus"):
        RayWorkers(machines.address, "cpu", -1)

    with pytest.raises(UsageError, match="no node of the Ray cluster has 1 CPU for a worker"):
        RayWorkers(machines.address, "cpu", 1)


@pytest.mark.slow
def test_a_study_on_a_cluster_that_is_interrupted_and_loses_a_worker_and_a_node_ends_as_on_this_machine(
    machines: Machines, workspace: Path, finished_copy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Study("tiny").compare()  # opening a copy mends where its artifacts lie
    expected = outcome(finished_copy)
    monkeypatch.chdir(workspace)
    lost, kept = machines.add(num_cpus=1), machines.add(num_cpus=1)
    arguments = ["study", "--study", "tiny", "--ray", machines.address, *tiny.options(**tiny.WHOLE)]

    driver = tiny.start(arguments, workspace, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: len(rung_files(workspace)) >= 1)
    driver.terminate()
    assert driver.communicate()[1].endswith("optstudy: interrupted; run the same command again to resume\n")
    assert driver.returncode == 1

    driver = tiny.start(arguments, workspace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    until(lambda: len(rung_files(workspace)) >= 4 and actors(kept))
    os.kill(actors(kept)[0], signal.SIGKILL)
    until(lambda: len(rung_files(workspace)) >= 9)
    before = {name: path.stat().st_mtime_ns for name, path in rung_files(workspace).items()}
    machines.lose(lost)
    output, errors = driver.communicate()

    assert driver.returncode == 0, errors
    assert output == (finished / "output.txt").read_text()
    assert before.items() <= {n: p.stat().st_mtime_ns for n, p in rung_files(workspace).items()}.items()
    assert outcome(workspace) == expected
    machines.remove(kept)
