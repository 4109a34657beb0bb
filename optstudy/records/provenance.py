"""The provenance of a run's numbers (packages, code, machine, data, user files), and how two of them differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

PACKAGES = ("optstudy", "optuna", "torch")  # whose versions are recorded

# How a difference is named, most important first.
NAMES: Mapping[str, str] = {
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
        """Build it from `details` and the user's files."""
        environment = {name: value for name, value in details.items() if name not in (*PACKAGES, "data")}
        versions = {name: details[name] for name in details if name in PACKAGES}
        return cls(versions, environment, details.get("data", ""), sources)

    @property
    def details(self) -> dict[str, str]:
        """All entries but the user's files, by name."""
        return {**self.versions, **self.environment, **({"data": self.data} if self.data else {})}

    def with_machines(self, machines: Sequence[Mapping[str, str]]) -> Self:
        """Add the machines that computed the parts of the work, joined by semicolons if they differ."""
        names = dict.fromkeys(name for one in machines for name in one)
        joined = {
            name: "; ".join(dict.fromkeys(one[name] for one in machines if name in one)) for name in names
        }
        return replace(self, environment={**self.environment, **joined})

    def differences(self, here: "Provenance") -> dict[str, tuple[str, str]]:
        """Return the recorded and the present value of each entry that differs; unrecorded entries are omitted."""
        files = here.sources or {}
        before = files if self.sources is None else self.sources
        changed = {
            name: (before.get(name, "none")[:16], files.get(name, "none")[:16])
            for name in {**before, **files}
            if before.get(name) != files.get(name)
        }
        recorded, present = self.details, here.details
        return changed | {
            label: (recorded[name], present.get(name, "none"))
            for name, label in NAMES.items()
            if name in recorded and recorded[name] != present.get(name)
        }

    def unrecorded(self, here: "Provenance") -> list[str]:
        """Return the names of the entries that are known here but were not recorded."""
        missing = [
            label for name, label in NAMES.items() if name in here.details and name not in self.details
        ]
        return ["the user's files"] * (bool(here.sources) and self.sources is None) + missing
