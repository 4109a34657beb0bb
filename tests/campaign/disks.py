"""A file system of its own below a workspace, in a mount namespace of its own: it can be filled, or fail."""

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from campaign.subject import Strike, Subject
from components import may_mount


@dataclass(frozen=True)
class Disk:
    """A file system that is mounted at a folder, for the processes of one namespace."""

    keeper: int  # the process that keeps the namespace
    folder: Path
    mount: tuple[str, ...]  # the command that mounts it

    @property
    def entering(self) -> list[str]:
        """The program that runs another in the namespace, and in the folder."""
        namespace = f"--mount=/proc/{self.keeper}/ns/mnt"
        return ["nsenter", namespace, "sh", "-c", 'cd "$0" && exec "$@"', str(self.folder)]

    @property
    def seen(self) -> Path:
        """The folder as it is seen from outside."""
        return Path(f"/proc/{self.keeper}/root{self.folder}")

    def fill(self, subject: Subject, draw: random.Random) -> None:
        """Leave no room until the driver has ended."""
        filler = self.seen / "filler"
        with filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 10, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
        ends_in_one_line(subject)
        filler.unlink()

    def fail(self, subject: Subject, draw: random.Random) -> None:
        """Have ext4 find an error, upon which it becomes read-only; then mount it anew, as after a repair."""
        inside = [*self.entering[:2]]
        asked = [*inside, "findmnt", "--noheadings", "--output", "SOURCE", str(self.folder)]
        device = Path(subprocess.check_output(asked, text=True).strip()).name
        Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("read-only")
        ends_in_one_line(subject)
        subprocess.run([*inside, "umount", str(self.folder)], check=True)
        subprocess.run([*inside, *self.mount], check=True)


def ends_in_one_line(subject: Subject) -> None:
    """Wait for a driver that cannot write, unless it had nothing left to write."""
    before = len(subject.printed())
    status = subject.ended()
    lines = subject.printed()[before:].splitlines()
    said = [line for line in lines if line.startswith("optstudy: ")]
    if status != 0 and (status, lines[-1:]) != (1, said):
        subject.surprises.append(f"{status}, {lines[-1:]}")


@contextlib.contextmanager
def mounted(folder: Path, *mount: str) -> Iterator[Disk]:
    """Mount a file system at a folder in a new namespace, with what the folder holds."""
    may_mount()
    words = (*mount, str(folder))
    keeper = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", '"$@" && exec cat', "sh", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with keeper, keeper.stdin, keeper.stdout:
        keeper.stdin.write("mounted\n")
        keeper.stdin.flush()
        assert keeper.stdout.readline() == "mounted\n"
        disk = Disk(keeper.pid, folder, words)
        shutil.copytree(folder, disk.seen, dirs_exist_ok=True)
        os.sync()  # what a user wrote long ago is not lost with a journal
        yield disk


def suffer_on(
    disk: Disk, subject: Subject, strike: Strike, moments: list[float], draw: random.Random
) -> None:
    """Let a study suffer on a disk of its own, and bring what it leaves to its folder outside."""
    subject.prefix, subject.seen = disk.entering, disk.seen
    subject.suffer(strike, moments, draw)
    found = shutil.ignore_patterns("lost+found")
    shutil.copytree(
        disk.seen, subject.folder, ignore=found, dirs_exist_ok=True
    )  # its removal would unmount the disk
    subject.seen = subject.folder
