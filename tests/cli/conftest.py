"""How tests run the command line."""

import signal
import sys
from collections.abc import Iterator

import pytest
from commands import Ended, Run

from optstudy.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command in this process, as the program would."""
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def ended(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["optstudy", *arguments])
        capsys.readouterr()
        code: str | int | None = 0
        try:
            main()
        except SystemExit as exited:
            code = exited.code
        assert isinstance(code, int)
        return Ended(code, *capsys.readouterr())

    yield ended
    for kind, handler in handlers.items():
        signal.signal(kind, handler)
