"""A command that has ended, as tests look at it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The only line on standard error, of a command that printed nothing else."""
        assert self.out == ""
        [line] = self.err.splitlines()
        return line


Run = Callable[..., Ended]
