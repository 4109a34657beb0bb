"""docs/DEPLOY.md shows the files that it names, and a batch script goes back into the queue when it should."""

import os
import re
import shlex
import signal
import subprocess
from pathlib import Path

import click
import pytest

from optstudy.cli.main import group

ROOT = Path(__file__).parents[1]
DEPLOY = (ROOT / "docs" / "DEPLOY.md").read_text()
SCRIPTS = sorted((ROOT / "deploy").glob("**/*.sbatch"))
# What stands behind the language of a fenced block is the name of a file.
FILES: dict[str, str] = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", DEPLOY, flags=re.MULTILINE | re.DOTALL))
LINES = sorted(set(re.findall(r"(?:`|^\$ )optstudy ([a-z][^`\n]*)", DEPLOY, flags=re.MULTILINE)))

# Stand-ins, since a test's machine has no Slurm: where the study and Slurm's commands are looked up.
STUDY = """#!/bin/bash
trap '{at_signal}' TERM
echo "study has begun: $*"
{then}
"""
WORK = "for _ in {1..300}; do sleep 0.1; done"
SQUEUE = "#!/bin/bash\necho {state}\n"
SCONTROL = '#!/bin/bash\necho "scontrol $*"\n'


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
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


def test_a_study_that_slurm_stops_at_the_limit_goes_back_into_the_queue(tmp_path: Path) -> None:
    status, log = run_job(tmp_path, at_signal="echo interrupted; exit 1")

    assert "interrupted" in log
    assert "scontrol requeue 7" in log
    assert status == 1


def test_a_cancelled_job_stays_cancelled(tmp_path: Path) -> None:
    status, log = run_job(tmp_path, at_signal="echo interrupted; exit 1", state="COMPLETING")

    assert "interrupted" in log
    assert "scontrol" not in log
    assert status == 1


def test_a_study_that_is_done_when_the_signal_comes_is_not_queued_again(tmp_path: Path) -> None:
    status, log = run_job(tmp_path, at_signal="exit 0")

    assert "ended with status 0" in log
    assert "scontrol" not in log
    assert status == 0


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_study_that_ends_by_itself_is_not_queued_again_and_passes_its_status_on(
    status: int, tmp_path: Path
) -> None:
    ended, log = run_job(tmp_path, then=f"exit {status}")

    assert f"ended with status {status}" in log
    assert "scontrol" not in log
    assert ended == status


def test_options_after_the_scripts_name_come_last_and_so_count(tmp_path: Path) -> None:
    _, log = run_job(tmp_path, then="exit 0")

    assert "study has begun: study --device cuda --jobs 3 --preset smoke --device cpu\n" in log


def run_job(
    folder: Path, *, at_signal: str | None = None, then: str = WORK, state: str = "RUNNING"
) -> tuple[int, str]:
    """Run the script of one GPU as Slurm does; where the study answers a signal, it gets one once it has begun."""
    study = STUDY.format(at_signal=at_signal or "exit 1", then=then)
    executable(folder / ".venv" / "bin" / "optstudy", study)
    executable(folder / "bin" / "squeue", SQUEUE.format(state=state))
    executable(folder / "bin" / "scontrol", SCONTROL)
    job = subprocess.Popen(
        ["/bin/bash", ROOT / "deploy" / "slurm" / "one-gpu.sbatch", "--preset", "smoke", "--device", "cpu"],
        cwd=folder,
        env={
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
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
