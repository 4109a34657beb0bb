"""Workers of this machine survive what happens to them, and take their environment."""

import hashlib
import importlib.util
import os
import pickle
import py_compile
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import cases
import pytest

from optstudy.errors import OptstudyError, UsageError
from optstudy.execution.flows import Flow, Task, drive, run_all
from optstudy.execution.local import (
    ALLOCATOR,
    ATTEMPTS,
    LocalWorkers,
    available_cores,
    environments,
    in_worker,
    listed_variables,
    run_pickled,
)
from optstudy.execution.pool import WorkerPool
from optstudy.training import run_rung
from optstudy.workloads.user_code import call

DRIVER = """
import time
import jobs
from optstudy.execution.local import LocalWorkers
from optstudy.execution.flows import Task, run_all

print("top", flush=True)
workers = LocalWorkers([{}, {}])
print(run_all([Task(jobs.double, (x,)) for x in range(4)], workers), flush=True)
for number in range(2):
    workers.submit(number, Task(jobs.once_forever, (f"pid-{number}",)))
for number in range(2):
    jobs.wait_for(f"pid-{number}")
print("busy", flush=True)
time.sleep(600)
"""


@pytest.fixture
def worker(jobs: ModuleType) -> Iterator[LocalWorkers]:  # the worker starts in its folder
    with LocalWorkers([{}]) as workers:
        yield workers


def test_workers_return_results_in_the_order_asked_for(jobs: ModuleType) -> None:
    with LocalWorkers([{}, {}]) as workers:
        assert run_all([Task(jobs.double, (x,)) for x in range(7)], workers) == [0, 2, 4, 6, 8, 10, 12]


def test_flows_run_on_real_workers(jobs: ModuleType, worker: LocalWorkers) -> None:
    def flow() -> Flow:
        one = yield Task(jobs.double, (1,))
        yield (yield Task(jobs.double, (one,)))

    assert sorted(drive([flow(), flow()], worker)) == [4, 4]


def test_events_of_a_task_arrive_before_its_result(jobs: ModuleType, worker: LocalWorkers) -> None:
    def flow() -> Flow:
        result = yield Task(jobs.counts, (3,))
        failure = yield Task(jobs.counts_and_fails, (1,))
        yield "ended", result, str(failure)

    assert list(drive([flow()], worker)) == [0, 1, 2, 0, ("ended", 3, "lost count")]
    assert run_all([Task(jobs.counts, (2,)), Task(jobs.double, (2,))], worker) == [2, 4]


def test_a_pool_without_events_returns_the_result_alone(jobs: ModuleType) -> None:
    message = pickle.dumps(Task(jobs.counts, (3,)))

    assert pickle.loads(run_pickled(message)) == 3  # noqa: S301  # made here


@pytest.mark.parametrize(
    ("name", "message", "usage"),
    [
        ("wrong", "ValueError: first line", False),
        ("silent", "KeyError: ", False),
        ("impossible", "ask for less", True),
        ("unlucky", "the disk is full", False),
        ("exits", "SystemExit: bye", False),
    ],
)
def test_what_a_task_raises_becomes_a_failure_of_one_line(
    jobs: ModuleType, worker: LocalWorkers, name: str, message: str, usage: bool
) -> None:
    worker.submit(5, Task(getattr(jobs, name), ()))

    ticket, failure = worker.next_result()

    assert ticket == 5
    assert (str(failure), isinstance(failure, UsageError)) == (message, usage)
    assert f"in {name}" in failure.details


def test_a_task_whose_result_cannot_travel_is_a_failure(jobs: ModuleType, worker: LocalWorkers) -> None:
    worker.submit(0, Task(jobs.unpicklable, ()))

    _, failure = worker.next_result()

    assert isinstance(failure, OptstudyError)
    assert "pickle" in str(failure)
    assert run_all([Task(jobs.double, (1,))], worker) == [2]


def test_a_task_that_the_worker_cannot_find_is_a_failure(
    jobs: ModuleType, worker: LocalWorkers, tmp_path: Path
) -> None:
    (tmp_path / "jobs.py").unlink()

    worker.submit(0, Task(jobs.double, (1,)))

    assert str(worker.next_result()[1]) == "ModuleNotFoundError: No module named 'jobs'"


@pytest.mark.parametrize(("name", "kind"), [("impossible", UsageError), ("wrong", OptstudyError)])
def test_run_all_raises_what_the_failure_stands_for(
    jobs: ModuleType, worker: LocalWorkers, name: str, kind: type[OptstudyError]
) -> None:
    tasks = [Task(jobs.double, (1,)), Task(getattr(jobs, name), ())]

    with pytest.raises(OptstudyError) as raised:
        run_all(tasks, worker)

    assert type(raised.value) is kind


def test_dearer_tasks_start_first_and_equal_ones_in_the_order_of_their_tickets(
    jobs: ModuleType, worker: LocalWorkers, tmp_path: Path
) -> None:
    log, gate = str(tmp_path / "log"), str(tmp_path / "gate")
    worker.submit(0, Task(jobs.wait_for, (gate,)))
    for ticket, (word, cost) in enumerate(
        [("cheap", 1.0), ("dear", 9.0), ("dear too", 9.0), ("fair", 5.0)], 1
    ):
        worker.submit(ticket, Task(jobs.note, (log, word), cost))
    Path(gate).touch()

    assert [worker.next_result()[0] for _ in range(5)] == [0, 2, 3, 4, 1]
    assert Path(log).read_text().split("\n")[:-1] == ["dear", "dear too", "fair", "cheap"]


def test_a_worker_killed_in_mid_task_is_replaced_and_the_result_still_comes(
    jobs: ModuleType, worker: LocalWorkers, tmp_path: Path
) -> None:
    (before,) = worker.pids
    worker.submit(0, Task(jobs.once_forever, (str(tmp_path / "pid"),)))
    worker.submit(1, Task(jobs.double, (4,)))
    jobs.wait_for(str(tmp_path / "pid"))

    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    assert sorted([worker.next_result(), worker.next_result()]) == [(0, "again"), (1, 8)]
    (after,) = worker.pids
    assert after != before


def test_a_worker_killed_while_idle_costs_nothing(jobs: ModuleType, worker: LocalWorkers) -> None:
    assert run_all([Task(jobs.double, (1,))], worker) == [2]
    os.kill(worker.pids[0], signal.SIGKILL)

    assert run_all([Task(jobs.double, (2,))], worker) == [4]


def test_a_worker_that_dies_in_the_middle_of_a_message_is_replaced(
    jobs: ModuleType, worker: LocalWorkers, tmp_path: Path
) -> None:
    task = Task(jobs.die_in_the_middle_of_a_message, (str(tmp_path / "been"),))

    assert run_all([task], worker) == ["whole"]


def test_a_task_that_takes_its_worker_down_is_named(jobs: ModuleType, worker: LocalWorkers) -> None:
    worker.submit(0, Task(jobs.die, (), name="the first steps of mine"))

    _, failure = worker.next_result()

    assert str(failure).startswith(
        f"a worker died {ATTEMPTS} times during the first steps of mine (last by SIGKILL)"
    )


@pytest.mark.parametrize(("name", "how"), [("die", "SIGKILL"), ("leave", "status 3")])
def test_a_task_that_takes_its_worker_down_each_time_is_a_failure(
    jobs: ModuleType, worker: LocalWorkers, name: str, how: str
) -> None:
    worker.submit(0, Task(getattr(jobs, name), ()))

    _, failure = worker.next_result()

    assert isinstance(failure, OptstudyError)
    assert f"died {ATTEMPTS} times during the same task (last by {how})" in str(failure)
    assert run_all([Task(jobs.double, (1,))], worker) == [2]


def test_closing_ends_workers_in_the_middle_of_a_task(jobs: ModuleType, tmp_path: Path) -> None:
    with LocalWorkers([{}]) as workers:
        (process,) = workers._processes.values()
        workers.submit(0, Task(jobs.once_forever, (str(tmp_path / "pid"),)))
        jobs.wait_for(str(tmp_path / "pid"))

    assert process.returncode is not None
    assert workers.pids == []


def test_workers_do_not_run_the_script_again_nor_outlive_it(jobs: ModuleType, tmp_path: Path) -> None:
    assert jobs
    (tmp_path / "driver.py").write_text(DRIVER)
    # Workers write to standard error: it ends when the last process that holds it has.
    driver = subprocess.Popen(
        [sys.executable, "driver.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    said = [driver.stdout.readline() for _ in range(3)]
    alive = [int((tmp_path / f"pid-{number}").read_text()) for number in range(2)]
    for pid in alive:
        os.kill(pid, 0)

    driver.kill()
    rest, noise = driver.communicate(timeout=30)

    assert said == ["top\n", "[0, 2, 4, 6]\n", "busy\n"]
    assert rest == ""
    assert noise == "noise\n" * 4


def test_workers_know_what_they_are_and_take_their_environment(jobs: ModuleType) -> None:
    with LocalWorkers([{"OMP_NUM_THREADS": "5"}]) as workers:
        (found,) = run_all([Task(jobs.environment, ("OPTSTUDY_WORKER", "OMP_NUM_THREADS"))], workers)

    assert found == ["1", "5"]
    assert not in_worker()


def test_workers_run_the_drivers_optstudy_whatever_lies_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "optstudy").mkdir()
    (tmp_path / "optstudy" / "__init__.py").write_text("raise ImportError('of another checkout')\n")
    monkeypatch.chdir(tmp_path)

    with LocalWorkers([{}]) as workers:
        (found,) = run_all([Task(available_cores, ())], workers)

    assert found == available_cores()


def test_environments_hold_threads_and_the_data_folder_once_for_each_job(tmp_path: Path) -> None:
    found = environments("cpu", threads=2, jobs=3, data_dir=tmp_path)

    one = {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2", "OPTSTUDY_DATA_DIR": str(tmp_path)}
    assert found == [one | ALLOCATOR] * 3


def test_there_is_a_worker_for_each_core_that_this_process_may_use() -> None:
    found = environments("cpu", threads=1)

    assert found == [{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"} | ALLOCATOR] * available_cores()


def test_a_workers_allocator_keeps_its_memory_unless_the_user_says_otherwise(
    jobs: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")

    with LocalWorkers(environments("cpu", threads=1, jobs=1)) as workers:
        (found,) = run_all([Task(jobs.environment, tuple(ALLOCATOR))], workers)

    assert found == ["1073741824", "131072"]


def test_the_allocator_changes_no_bit_of_a_run(tmp_path: Path) -> None:
    with cases.project(tmp_path):
        states = []
        for environment in (environments("cpu", threads=1, jobs=1)[0], {"OMP_NUM_THREADS": "1"}):
            with LocalWorkers([environment]) as workers:
                [(_, state)] = run_all([Task(run_rung, (cases.plan(), None, 0, 2))], workers)
            states.append(state)

    assert states[0] == states[1]


def test_workers_share_the_visible_gpus_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")

    def gpus(jobs: int | None) -> Sequence[str]:
        return [each["CUDA_VISIBLE_DEVICES"] for each in environments("cuda", 1, jobs)]

    assert gpus(None) == ["3", "5"]
    assert gpus(3) == ["3", "5", "3"]


HIDDEN = ("numpy", "torch", "optstudy", "random", "difflib", "secrets", "colorsys")
LISTED = f"""
import importlib

def files():
    return [importlib.import_module(name).__file__ for name in {HIDDEN}]
"""
UNREAD = "open('imported', 'w')\n"


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, str]:
    """The list of the one file, of many in the current folder, that may be imported."""
    monkeypatch.chdir(tmp_path)
    for name in (*HIDDEN, "mine", "other"):
        Path(f"{name}.py").write_text(UNREAD)
    for name in ("mine", "other"):
        py_compile.compile(f"{name}.py", invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    Path(importlib.util.cache_from_source("other.py")).rename("other.pyc")
    Path("other.py").unlink()
    Path("mine.py").write_text(LISTED)
    return {"mine.py": hashlib.sha256(LISTED.encode()).hexdigest()}


def test_of_a_list_of_files_workers_import_the_source_and_no_other_file(listed: Mapping[str, str]) -> None:
    with LocalWorkers([listed_variables(listed)]) as workers:
        [found] = run_all([Task(call, ("mine.py:files",))], workers)
        workers.submit(0, Task(call, ("other:files",)))
        _, failure = workers.next_result()

    assert not any(Path(file).is_relative_to(Path.cwd()) for file in found)
    assert "no such module" in str(failure)
    assert not Path("imported").exists()


def test_workers_do_not_import_a_file_that_has_changed_since_it_was_listed(listed: Mapping[str, str]) -> None:
    with LocalWorkers([listed_variables(listed)]) as workers:
        Path("mine.py").write_text(UNREAD)
        workers.submit(0, Task(call, ("mine.py:files",)))
        _, failure = workers.next_result()

    assert "mine.py has changed since it was listed" in str(failure)
    assert not Path("imported").exists()


@pytest.mark.parametrize(
    ("references", "found"),
    [
        ((), True),
        (("mnist", "lenet5", "cross_entropy", "lion.py:Lion"), True),
        (("mnist", "lenet5", "cross_entropy", "torch.optim.SGD"), False),
    ],
)
def test_workers_find_modules_of_the_current_folder_unless_nothing_of_the_users_is_named(
    references: tuple[str, ...], found: bool, jobs: ModuleType
) -> None:
    with WorkerPool(jobs=1).workers("cpu", 1, references=references) as workers:
        workers.submit(0, Task(jobs.double, (2,)))
        _, result = workers.next_result()

    assert result == 4 if found else "No module named 'jobs'" in str(result)
