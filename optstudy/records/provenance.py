"""The provenance of a run's numbers (packages, code, machine, data, user files), and its differences from another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

PACKAGES = ("optstudy", "optuna", "torch")  # whose versions are recorded

# Labels of the entries in which provenances may differ, most important first.
LABELS: Mapping[str, str] = {
    "data": "data's checksum",
    "torch": "torch",
    "device": "device",
    "driver": "driver",
    "flags": "flags",
    "threads": "threads",
    "processor": "processor",
    "instructions": "instructions",
    "optstudy": "optstudy",
    "optstudy_commit": "optstudy's commit",
    "commit": "working folder's commit",
    "tree": "working folder's tree",
    "lock": "lock",
    "python": "Python",
    "optuna": "Optuna",
    "system": "system",
}


@dataclass(frozen=True)
class Provenance:
    """What a run's numbers depend on in addition to its plan; absent entries were not recorded."""

    versions: Mapping[str, str] = field(default_factory=dict)  # by package
    environment: Mapping[str, str] = field(default_factory=dict)  # of the code and the machine
    data: str = ""  # checksum of the data set
    sources: Mapping[str, str] | None = None  # SHA-256 of the user's files

    @classmethod
    def from_details(cls, details: Mapping[str, str], sources: Mapping[str, str] | None) -> Self:
        """Build a provenance from its `details` and the user's files."""
        environment = {name: value for name, value in details.items() if name not in (*PACKAGES, "data")}
        versions = {name: details[name] for name in details if name in PACKAGES}
        return cls(versions, environment, details.get("data", ""), sources)

    @property
    def details(self) -> dict[str, str]:
        """All entries except the user's files, by name."""
        return {**self.versions, **self.environment, **({"data": self.data} if self.data else {})}

    def with_machines(self, machines: Sequence[Mapping[str, str]]) -> Self:
        """Add the entries of the machines that computed a run; values that differ are joined by semicolons."""
        names = dict.fromkeys(name for machine in machines for name in machine)
        joined = {
            name: "; ".join(dict.fromkeys(machine[name] for machine in machines if name in machine))
            for name in names
        }
        return replace(self, environment={**self.environment, **joined})

    def differences(self, current: "Provenance") -> dict[str, tuple[str, str]]:
        """Return the recorded and the current value of each entry that differs, without unrecorded ones."""
        files = current.sources or {}
        before = files if self.sources is None else self.sources
        changed = {
            name: (before.get(name, "none")[:16], files.get(name, "none")[:16])
            for name in {**before, **files}
            if before.get(name) != files.get(name)
        }
        recorded, current_details = self.details, current.details
        return changed | {
            label: (recorded[name], current_details.get(name, "none"))
            for name, label in LABELS.items()
            if name in recorded and recorded[name] != current_details.get(name)
        }

    def unrecorded(self, current: "Provenance") -> list[str]:
        """Return the labels of the entries that were not recorded, but are known in the current provenance."""
        missing = [
            label for name, label in LABELS.items() if name in current.details and name not in self.details
        ]
        return ["the user's files"] * (bool(current.sources) and self.sources is None) + missing
