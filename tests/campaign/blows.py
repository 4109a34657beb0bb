"""Signals that end a study or a part of it."""

import os
import random
import signal
from collections.abc import Mapping
from pathlib import Path

from campaign.subject import Strike, Subject

INTERRUPTED = "optstudy: interrupted; run the same command again to resume"


def kill_driver(subject: Subject, draw: random.Random) -> None:
    os.kill(subject.pid, signal.SIGKILL)
    subject.ended()


def kill_group(subject: Subject, draw: random.Random) -> None:
    os.killpg(subject.pid, signal.SIGKILL)
    subject.ended()


def kill_workers(subject: Subject, draw: random.Random) -> None:
    """Kill one worker, or all; the driver goes on."""
    found = subject.workers()
    while not found and subject.running:
        subject.wait(0.1)
        found = subject.workers()
    for pid in found if draw.random() < 0.5 else found[:1]:
        os.kill(pid, signal.SIGKILL)


def interrupt(kind: signal.Signals, times: int) -> Strike:
    """Ask a driver to stop, with SIGINT as a terminal does; a second time while it stops."""

    def strike(subject: Subject, draw: random.Random) -> None:
        while subject.running and not catches(subject.pid, signal.SIGTERM):
            subject.wait(0.02)  # Python is still starting
        for _ in range(times):
            if subject.running:
                (os.killpg if kind == signal.SIGINT else os.kill)(subject.pid, kind)
                subject.wait(draw.uniform(0, 0.5))
        status, said = subject.ended(), subject.last_line()
        if status != 0 and (status, said) != (1, INTERRUPTED):
            subject.surprises.append(f"{status}, {said}")

    return strike


def catches(pid: int, kind: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    [caught] = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")]
    return bool(caught >> (kind - 1) & 1)


KILLS: Mapping[str, Strike] = {
    "SIGKILL driver": kill_driver,
    "SIGKILL group": kill_group,
    "SIGKILL workers": kill_workers,
}
SIGNALS: Mapping[str, Strike] = {
    f"{kind.name} {word}": interrupt(kind, times)
    for kind in (signal.SIGTERM, signal.SIGINT)
    for times, word in ((1, "once"), (2, "twice"))
}
