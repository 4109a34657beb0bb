"""The search space of an optimizer: ranges, choices, fixed values, default and paper configurations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from optstudy.errors import UsageError
from optstudy.records.look import Look, derive_look

Scalar = bool | int | float | str


@dataclass(frozen=True)
class Range:
    """A numeric hyperparameter, searched between two bounds, both included."""

    name: str
    low: float  # an int if `integer`
    high: float
    log: bool  # sampled uniformly in the logarithm
    complement: (
        bool  # sampled as 1 - value, with `log` uniformly in log(1 - value); low and high bound the value
    )
    integer: bool
    why: str

    def contains(self, value: Any) -> bool:
        """Whether a value is a number (an int if `integer`) from `low` to `high`."""
        kinds = int if self.integer else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{'a whole number ' if self.integer else ''}from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """A categorical hyperparameter."""

    name: str
    choices: tuple[Scalar, ...]
    why: str

    def contains(self, value: Any) -> bool:
        """Whether a value is among the choices; 0 equals 0.0, but not false."""
        return any(_same(value, choice) for choice in self.choices)

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.choices))}"


@dataclass(frozen=True)
class Space:
    """One optimizer: how to construct it, its search space, and its default and paper configurations.

    A configuration is a dict of hyperparameters: every searched name, and fixed names only if it overrides them.
    """

    name: str
    optimizer: str  # class path: "torch.optim.SGD", "package.module:name" or "file.py:name"
    needs: str  # what `step` takes: "" for nothing, "closure" for a closure that returns the loss
    seeded: bool  # whether the run's seed is passed to the constructor as `seed`
    hessian_products: int  # Hessian-vector products per step
    tuples: dict[str, tuple[str, ...]]  # constructor argument -> names of its parts
    fixed: dict[str, Any]
    search: tuple[Range | Choice, ...]
    default: dict[str, Any]  # the library's value of every searched name
    paper: dict[str, Any] | None  # the paper's values, of searched or fixed names; None if it has none
    source: Path
    label: str = ""  # this and the following define the look; empty if the file does not set it
    colour: str = ""
    style: str = ""
    cite: str = ""

    @property
    def look(self) -> Look:
        """Label, colour and style of the optimizer in tables, figures and reports."""
        return derive_look(self.name, label=self.label, colour=self.colour, style=self.style, cite=self.cite)

    def violations(self, params: Mapping[str, Any]) -> list[str]:
        """Explain why a configuration is outside the space.

        Args:
            params: Hyperparameters by name.

        Returns:
            One sentence for each missing, unknown or out-of-range value; empty if the configuration is inside.
        """
        searched = {dimension.name: dimension for dimension in self.search}
        violations = [f"{name} is missing" for name in searched if name not in params]
        for name, value in params.items():
            if name in searched and not searched[name].contains(value):
                violations.append(f"{name} is {value!r}, not {searched[name]}")
            elif name in self.fixed and not _same(value, self.fixed[name]):
                violations.append(f"{name} is {value!r}, not the fixed {self.fixed[name]!r}")
            elif name not in searched and name not in self.fixed:
                violations.append(f"{name} is not a hyperparameter of {self.name}")
        return violations

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether a configuration has every searched name, each in its range, and overrides no fixed value."""
        return not self.violations(params)

    def arguments(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a configuration to arguments of the constructor.

        Args:
            params: Hyperparameters by name; they override fixed values.

        Returns:
            Fixed values and hyperparameters, with the parts of each tuple gathered under its name.

        Raises:
            UsageError: If a part of a tuple is missing.
        """
        values = self.fixed | dict(params)
        parts = {part for names in self.tuples.values() for part in names}
        if missing := sorted(parts - values.keys()):
            raise UsageError(
                f"{self.name} is not configured: {', '.join(missing)} missing; give a value to each"
            )
        gathered = {name: tuple(values[part] for part in names) for name, names in self.tuples.items()}
        return {name: value for name, value in values.items() if name not in parts} | gathered

    def config(self, kind: Literal["default", "paper"]) -> dict[str, Any]:
        """Return the library's or the paper's configuration.

        Args:
            kind: ``"default"``, or ``"paper"`` for the paper's values, completed by the library's.

        Returns:
            Hyperparameters by name, in the order of the search; fixed names only where the paper's values differ.

        Raises:
            UsageError: If the space has no values of the paper.
        """
        if kind == "default":
            return dict(self.default)
        if self.paper is None:
            raise UsageError(f"{self.source}: no [paper] values; add them, or choose another configuration")
        changed = {n: v for n, v in self.paper.items() if n not in self.fixed or not _same(v, self.fixed[n])}
        return self.default | changed


def _same(a: Any, b: Any) -> bool:
    """Equality that distinguishes true from 1."""
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)
