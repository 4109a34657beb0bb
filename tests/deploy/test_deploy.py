"""docs/DEPLOY.md shows the files that it names, and a batch script goes back into the queue when it should."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from optstudy.cli.main import group

ROOT = Path(__file__).parents[2]
DEPLOY = (ROOT / "docs" / "DEPLOY.md").read_text()
SCRIPTS = sorted((ROOT / "deploy").glob("**/*.sbatch"))
# What stands behind the language of a fenced block is the name of a file.
FILES: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", DEPLOY, flags=re.MULTILINE | re.DOTALL))
LINES = sorted(set(re.findall(r"(?:`|^\$ )optstudy ([a-z][^`\n]*)", DEPLOY, flags=re.MULTILINE)))

# Stand-ins, since a test's machine has no Slurm and no cluster.
STUDY = """#!/bin/bash
trap '{at_signal}' TERM
echo $$ > study.pid
echo "study has begun: $*"
{then}
"""
WORK = "for _ in {1..300}; do sleep 0.1; done"
SLURM = {
    "squeue": "echo {state}",
    "scontrol": 'echo "scontrol $*"',
    "scancel": "kill -TERM $(cat study.pid)",
    "srun": 'while [[ "$1" = --* ]]; do shift; done; exec "$@"',
    "ray": 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"',
}
both = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)


@both
def test_each_batch_script_is_read_by_bash(script: Path) -> None:
    subprocess.run(["/bin/bash", "-n", script], check=True)


def test_the_page_shows_each_batch_script_as_it_is() -> None:
    assert {str(path.relative_to(ROOT)): path.read_text() for path in SCRIPTS} == FILES


@pytest.mark.parametrize("line", LINES)
def test_each_command_line_of_the_page_is_understood(line: str) -> None:
    name, *arguments = shlex.split(line)
    command = group.get_command(click.Context(group), name)

    assert command is not None
    command.make_context(name, arguments)


@both
def test_a_study_that_slurm_stops_at_the_limit_goes_back_into_the_queue(script: Path, tmp_path: Path) -> None:
    status, log = run_job(script, tmp_path, at_signal="echo interrupted; exit 1")

    assert "interrupted" in log
    assert "scontrol requeue 7" in log
    assert status == 1


@both
def test_a_cancelled_job_stays_cancelled(script: Path, tmp_path: Path) -> None:
    status, log = run_job(script, tmp_path, at_signal="echo interrupted; exit 1", state="COMPLETING")

    assert "interrupted" in log
    assert "scontrol" not in log
    assert status == 1


@both
def test_a_study_that_is_done_when_the_signal_comes_is_not_queued_again(script: Path, tmp_path: Path) -> None:
    status, log = run_job(script, tmp_path, at_signal="exit 0")

    assert "ended with status 0" in log
    assert "scontrol" not in log
    assert status == 0


@both
@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_study_that_ends_by_itself_is_not_queued_again_and_passes_its_status_on(
    status: int, script: Path, tmp_path: Path
) -> None:
    ended, log = run_job(script, tmp_path, then=f"exit {status}")

    assert f"ended with status {status}" in log
    assert "scontrol" not in log
    assert ended == status


@both
def test_options_after_the_scripts_name_come_last_and_so_count(script: Path, tmp_path: Path) -> None:
    _, log = run_job(script, tmp_path, then="exit 0")

    assert re.search("study has begun: study --device cuda .* --preset smoke --device cpu\n", log)


def test_a_clusters_token_is_gone_when_its_job_has_ended(tmp_path: Path) -> None:
    _, log = run_job(ROOT / "deploy" / "slurm" / "ray.sbatch", tmp_path, then="ls -l .ray-token-7")

    assert "-rw------- " in log
    assert not list(tmp_path.glob(".ray-*"))


def run_job(
    script: Path, folder: Path, *, at_signal: str | None = None, then: str = WORK, state: str = "RUNNING"
) -> tuple[int, str]:
    """Run a script as Slurm does; where the study answers a signal, it gets one once it has begun."""
    study = STUDY.format(at_signal=at_signal or "exit 1", then=then)
    programs = folder / ".venv" / "bin"
    executable(programs / "optstudy", study)
    (programs / "python").symlink_to(sys.executable)
    for name, text in SLURM.items():
        executable(folder / "bin" / name, f"#!/bin/bash\n{text.replace('{state}', state)}\n")
    job = subprocess.Popen(
        ["/bin/bash", script, "--preset", "smoke", "--device", "cpu"],
        cwd=folder,
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_JOB_NODELIST": "n1",
            "SLURM_NNODES": "1",
            "SLURM_CPUS_PER_TASK": "3",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert job.stdout is not None
    with job.stdout as lines:
        log = ""
        while "study has begun" not in log:
            line = lines.readline()
            assert line, log
            log += line
        if at_signal:
            job.send_signal(signal.SIGTERM)
        log += lines.read()
    return job.wait(), log


def executable(path: Path, text: str) -> None:
    """Write a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
