"""What differs between where a run was made and here: code, data, versions, machine."""

from collections.abc import Mapping
from dataclasses import dataclass

from optstudy.posthoc.reproduce.recorded import Recorded
from optstudy.records.plan import Plan
from optstudy.workloads.datasets import load_description
from optstudy.workloads.user_code import sources

# What numbers depend on most comes first.
FACTS: Mapping[str, str] = {
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
class Differing:
    """Something that a run rests on, which is not the same here."""

    what: str
    there: str  # "" where it was not recorded
    here: str


def foundations(plan: Plan) -> tuple[str, dict[str, str]]:
    """Return the checksum of a plan's data, and the hashes of the user's files that it rests on; a worker's task."""
    files = {name: digest for named in plan.references for name, digest in sources(named).items()}
    return load_description(plan.dataset).checksum, files


def differing(recorded: Recorded, here: Mapping[str, str], files: Mapping[str, str]) -> list[Differing]:
    """Say what is not the same here; facts that were not recorded cannot be told apart, and are left out."""
    before = recorded.sources if recorded.sources is not None else files
    changed = [
        Differing(name, before.get(name, "none")[:16], files.get(name, "none")[:16])
        for name in {**before, **files}
        if before.get(name) != files.get(name)
    ]
    return changed + [
        Differing(what, recorded.facts[name], here.get(name, "none"))
        for name, what in FACTS.items()
        if name in recorded.facts and recorded.facts[name] != here.get(name)
    ]


def unrecorded(recorded: Recorded, here: Mapping[str, str], files: Mapping[str, str]) -> list[str]:
    """Name what is known here and was not recorded there."""
    found = [what for name, what in FACTS.items() if name in here and name not in recorded.facts]
    return ["the user's files"] * (bool(files) and recorded.sources is None) + found
