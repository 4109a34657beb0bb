"""Tasks that workers run: some return, some fail, some never end."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

JOBS = """
import os, signal, sys, time
from optstudy.errors import OptstudyError, UsageError

def double(x):
    print("noise")
    return 2 * x

def wrong():
    raise ValueError("first line\\nsecond line")

def silent():
    raise KeyError

def impossible():
    raise UsageError("ask for less")

def unlucky():
    raise OptstudyError("the disk is full")

def exits():
    raise SystemExit("bye")

def counts(to):
    for number in range(to):
        yield number
    return to

def counts_and_fails(to):
    yield from range(to)
    raise OptstudyError("lost count")

def unpicklable():
    return lambda: None

def note(path, word):
    with open(path, "a") as file:
        file.write(word + "\\n")
    return word

def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def once_forever(path):
    # The first to come leaves its number and never ends; the second finds it and ends.
    if os.path.exists(path):
        return "again"
    with open(path + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".new", path)
    time.sleep(600)

def meet(mine, others):
    # Ends when all are there, so each has a worker of its own.
    open(mine, "w").close()
    for path in others:
        wait_for(path)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), os.getppid()

def one_stays(mine, others, parent):
    # All meet; then one of that parent's never ends.
    meet(mine, others)
    if os.getppid() == parent and not os.path.exists("chosen"):
        try:
            os.mkdir("chosen")
        except FileExistsError:
            return "free"
        time.sleep(600)
    return "free"

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def leave():
    os._exit(3)

def die_in_the_middle_of_a_message(path):
    if os.path.exists(path):
        return "whole"
    open(path, "w").close()
    os.write(int(sys.argv[1]), b"\\0\\0\\1\\0" + b"half")
    os.kill(os.getpid(), signal.SIGKILL)

def environment(*names):
    return [os.environ.get(name) for name in names]
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a module of the current folder, which workers must find by themselves."""
    (tmp_path / "jobs.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jobs", raising=False)
    return importlib.import_module("jobs")
