"""What differs between where a run was made and here: code, data, versions, machine."""

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass

from optstudy.data import load_description
from optstudy.environment import environment
from optstudy.references import sources
from optstudy.reproduction.recorded import Recorded
from optstudy.training import Plan, machine

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
VERSIONS = ("optstudy", "optuna", "torch")


@dataclass(frozen=True)
class Differing:
    """Something that a run rests on, which is not the same here."""

    what: str
    there: str  # "" where it was not recorded
    here: str


def facts_here(plan: Plan) -> dict[str, str]:
    """Return what a run recorded of where it was made, of this process and folder; a worker's task."""
    return {
        **{name: importlib.metadata.version(name) for name in VERSIONS},
        **environment(),
        **machine(plan),
        "data": load_description(plan.dataset).checksum,
    }


def sources_here(plan: Plan) -> dict[str, str]:
    """Return the hashes of the user's files that a plan rests on, as they are now."""
    return {name: digest for named in plan.references for name, digest in sources(named).items()}


def differing(recorded: Recorded, here: Mapping[str, str], files: Mapping[str, str]) -> list[Differing]:
    """Say what is not the same here; facts that were not recorded cannot be told apart, and are left out."""
    found = [
        Differing(what, recorded.facts[name], here.get(name, "none"))
        for name, what in FACTS.items()
        if name in recorded.facts and recorded.facts[name] != here.get(name)
    ]
    changed = [
        Differing(name, digest[:16], files.get(name, "missing")[:16])
        for name, digest in recorded.sources.items()
        if files.get(name) != digest
    ]
    return changed + found


def unrecorded(recorded: Recorded, here: Mapping[str, str]) -> list[str]:
    """Name what is known here and was not recorded there."""
    return [what for name, what in FACTS.items() if name in here and name not in recorded.facts]
