"""An MLflow server that can be killed, and started again where it was."""

import os
import random
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from campaign.subject import Subject

from optstudy.tracking.server import run_server


class Server:
    """An MLflow server on the store of a workspace."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port, self.address = folder, port, ""
        self._running = ExitStack()

    def __enter__(self) -> Self:
        self.address, self._process = self._running.enter_context(run_server(self.folder, self.port))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def kill(self, subject: Subject, draw: random.Random) -> None:
        """Kill the server, and start it again while the driver waits."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._running.close()
        subject.wait(draw.uniform(0, 2))
        self.__enter__()
