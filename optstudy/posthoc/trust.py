"""Decide whether the code that the record of a run names may be imported, and say what it is before it is.

A workspace is code, as a Makefile is. A record from elsewhere, in a report's files or on a server, is not: it may name
any function of any file or package.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FunctionType

from torch import nn

from optstudy.errors import UsageError
from optstudy.optimizers import load_factory, packaged_optimizers
from optstudy.records.plan import Plan
from optstudy.records.run import FinalRun
from optstudy.study.workspace import StudyFiles, read_recorded
from optstudy.tracking import Tracking
from optstudy.workloads.user_code import (
    check_has_source,
    describe_origin,
    is_user_code,
    is_users_own,
    load_object,
    sources,
    without_partial,
)


@dataclass(frozen=True)
class ForeignCode:
    """The code that the record of a run names, and that is neither optstudy's nor known to be the user's."""

    run: str  # STUDY/RUN
    references: Mapping[str, str]  # by kind: dataset, model, loss, optimizer
    recorded: Mapping[str, str] | None = None  # SHA-256 of the user's files behind them; None if not recorded
    known: Mapping[str, str] = field(default_factory=dict)  # references to the user's own code, by kind


@dataclass(frozen=True)
class Listing:
    """The code that will be imported for records from elsewhere."""

    lines: tuple[str, ...] = ()  # for the user: the references, and the files behind them
    files: Mapping[str, str] | None = None  # SHA-256 of each file that may be imported; None for any


def foreign_code(run: FinalRun, plan: Plan) -> ForeignCode:
    """Return the code that a plan names, except optstudy's own and the optimizers of packaged spaces."""
    names = {"dataset": plan.dataset, "model": plan.model, "loss": plan.loss}
    foreign = {kind: name for kind, name in names.items() if is_user_code(name)}
    if plan.method.optimizer not in packaged_optimizers():
        foreign["optimizer"] = plan.method.optimizer
    return ForeignCode(str(run.id), foreign, run.provenance.sources)


def code_in_mlflow(tracking: Tracking, run: FinalRun, plan: Plan, workspace: Path) -> ForeignCode:
    """Return the code that the plan of a run names.

    It is known if the run is in the workspace's own store, or if a study of the workspace, with the run's name, was
    begun with all of it, each reference as the same kind.
    """
    code = foreign_code(run, plan)
    known = not tracking.server or code.references.items() <= _study_references(workspace, run.study)
    return replace(code, references={}, known=code.references) if known else code


def check_trust(codes: Sequence[ForeignCode], *, trust: bool) -> Listing:
    """Return what will be imported; nothing is imported yet.

    Raises:
        UsageError: If there is such code and it is not trusted, or one of its files or modules is missing, or it has no
            source.
    """
    foreign = [code for code in codes if code.references]
    if not foreign:
        return Listing()
    if not trust:
        for code in foreign:
            raise UsageError(
                f"{code.run} is a record from elsewhere, and names code of its own: {_listed(code)};"
                " read that code, and give --trust to import and run it"
            )
    for code in foreign:
        for reference in code.references.values():
            check_has_source(reference)
    references = {name for code in codes for name in [*code.references.values(), *code.known.values()]}
    found = {reference: sources(reference) for reference in references}
    lines = (line for code in foreign for line in _describe(code, found))
    files = {name: digest for digests in found.values() for name, digest in digests.items()}
    return Listing(tuple(dict.fromkeys(lines)), files)


def check_kinds(references: Mapping[str, str]) -> None:
    """Import references, and check that each is of its kind before it is called; a worker's task.

    Raises:
        UsageError: If one is missing, or is neither of a class of its kind nor of a file of the user's.
    """
    for kind, reference in references.items():
        if kind == "optimizer":
            load_factory(reference)
            continue
        is_valid, expected = _KINDS[kind]
        if not is_valid(without_partial(load_object(reference))):
            raise UsageError(
                f"{kind} {reference!r}, which a record from elsewhere names, is not called; it must be {expected}"
            )


def _study_references(workspace: Path, study: str) -> frozenset[tuple[str, str]]:
    """Return kinds and references of the code that a study of the workspace was begun with; empty without a study."""
    recorded = read_recorded(StudyFiles(workspace, study))
    if recorded is None:
        return frozenset()
    begun = recorded.specification
    pairs = [("dataset", begun.dataset), ("model", begun.model), ("loss", begun.loss)]
    pairs += [
        ("optimizer", space.get("optimizer", "")) for space in recorded.fingerprint.get("spaces", {}).values()
    ]
    return frozenset(pair for pair in pairs if pair[1] in recorded.fingerprint.get("sources", {}))


def _is_model(value: object) -> bool:
    return is_users_own(value) or (isinstance(value, type) and issubclass(value, nn.Module))


def _is_loss(value: object) -> bool:
    if isinstance(value, FunctionType) and value.__module__ == "torch.nn.functional":
        return True
    return is_users_own(value) or isinstance(value, nn.Module)


_KINDS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "dataset": (is_users_own, "a function of a file of yours"),
    "model": (_is_model, "a torch.nn.Module class, or a function of a file of yours"),
    "loss": (_is_loss, "of torch.nn.functional, a torch.nn.Module, or a function of a file of yours"),
}


_LONGEST = 200  # characters of a reference in a message


def _describe(code: ForeignCode, found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield a line for each reference and for each file behind it."""
    recorded, here = code.recorded or {}, dict[str, str]()
    for kind, reference in code.references.items():
        files = found[reference]
        here |= files
        where = "" if files else f", {describe_origin(reference)}"
        yield f"imports {kind} {reference!r}{where}"
    for name, digest in here.items():
        if name not in recorded:
            yield f"{name!r} is not in the record; here it has SHA-256 {digest}"
        elif recorded[name] == digest:
            yield f"{name!r} is as recorded, with SHA-256 {digest}"
        else:
            yield f"{name!r} differs: recorded with SHA-256 {recorded[name]}, here {digest}"
    for name in recorded:
        if name not in here:
            yield f"{name!r} is in the record, but not imported here"


def _listed(code: ForeignCode) -> str:
    return ", ".join(f"{kind} {reference[:_LONGEST]!r}" for kind, reference in code.references.items())
