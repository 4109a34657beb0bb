"""Changes of source files that the user accepts: finished runs keep the older hashes, other runs get the new ones."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from optstudy.errors import UsageError, suggestion
from optstudy.study.run_cache import RunCache
from optstudy.study.workspace import RecordedStudy, StudyFiles
from optstudy.workloads.user_code import relative_path, sources

Hashes = Mapping[str, Mapping[str, str]]  # of source files, by reference and file


@dataclass(frozen=True)
class EarlierSources:
    """The source files before an accepted change, and the runs that had finished with them."""

    sources: Hashes
    keys: frozenset[str]  # of the finished runs


def accept_changes(files: StudyFiles, recorded: RecordedStudy | None, paths: Sequence[str]) -> RecordedStudy:
    """Record the new hashes of changed source files, and the older ones with the runs that have finished.

    Raises:
        UsageError: If a file is no source file of the study, or has not changed.
    """
    if recorded is None:
        raise UsageError(f"study {files.name!r} has not begun; leave out --accept-source")
    before: Hashes = recorded.fingerprint.get("sources", {})
    names = list(dict.fromkeys(relative_path(Path(path)) for path in paths))
    current = {reference: _current(reference, hashes, names) for reference, hashes in before.items()}
    now = {reference: dict(hashes) for reference, hashes in before.items()}
    for name in names:
        _check(files, name, before, current)
        for reference, hashes in now.items():
            hashes.pop(name, None)
            if name in current[reference]:
                hashes[name] = current[reference][name]
    measured = recorded.specification.curvature.samples != 0
    finished = RunCache(files.rungs).finished(measured=measured)
    earlier = [*recorded.fingerprint.get("accepted", ()), {"sources": before, "keys": sorted(finished)}]
    return replace(recorded, fingerprint={**recorded.fingerprint, "sources": now, "accepted": earlier})


def earlier_sources(fingerprint: Mapping[str, Any]) -> tuple[EarlierSources, ...]:
    """Return the source files before each accepted change of a study, the oldest first."""
    return tuple(
        EarlierSources(content["sources"], frozenset(content["keys"]))
        for content in fingerprint.get("accepted", ())
    )


def accepted_hashes(fingerprint: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the hashes of each source file of which a change was accepted, the oldest first."""
    hashes: dict[str, list[str]] = {}
    for version in (
        *(earlier.sources for earlier in earlier_sources(fingerprint)),
        fingerprint.get("sources", {}),
    ):
        for name, digest in _items(version):
            listed = hashes.setdefault(name, [])
            if listed[-1:] != [digest]:
                listed.append(digest)
    return {name: listed for name, listed in hashes.items() if len(listed) > 1}


def _check(files: StudyFiles, name: str, before: Hashes, current: Hashes) -> None:
    recorded, now = {*_items(before)}, {*_items(current)}
    known = sorted({file for file, _ in recorded | now})
    if name not in known:
        there = f"its files are {', '.join(known)}" if known else "it has none"
        raise UsageError(
            f"--accept-source {name}: study {files.name!r} has no such source file{suggestion(name, known)}; {there}"
        )
    if all(file != name for file, _ in recorded ^ now):
        raise UsageError(
            f"--accept-source {name}: the file is as study {files.name!r} has recorded it; leave out the option"
        )


def _items(hashes: Hashes) -> Iterator[tuple[str, str]]:
    for found in hashes.values():
        yield from found.items()


def _current(reference: str, recorded: Mapping[str, str], accepted: Sequence[str]) -> Mapping[str, str]:
    try:
        return sources(reference)
    except UsageError:
        if any(name in recorded for name in accepted):
            raise
        return recorded  # of an optimizer that is not run now; if it is, the fingerprint reports it
