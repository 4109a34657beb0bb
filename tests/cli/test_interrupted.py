"""A command that is interrupted ends in one line, and a second signal while it ends changes nothing."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, os, signal, sys
from optstudy.cli import main

def work(**_):
    os.kill(os.getpid(), signal.Signals[sys.argv[1]])

sys.modules["optstudy.cli.main"].group.main = work
atexit.register(work)
main()
"""


@pytest.mark.parametrize("kind", ["SIGINT", "SIGTERM"])
def test_a_second_signal_while_python_exits_changes_nothing(kind: str) -> None:
    ended = subprocess.run([sys.executable, "-c", PROGRAM, kind], check=False, text=True, capture_output=True)

    assert ended.stderr == "optstudy: interrupted; run the same command again to resume\n"
    assert ended.stdout == ""
    assert ended.returncode == 1
