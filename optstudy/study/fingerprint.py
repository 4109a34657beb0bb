"""Check that data, spaces, source files and versions have not changed since a study began."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from optstudy.errors import UsageError
from optstudy.records.forms import to_form
from optstudy.records.plan import DatasetDescription
from optstudy.records.space import Space
from optstudy.study.keys import KEYS
from optstudy.study.specification import Specification
from optstudy.study.workspace import ChangedStudyError, RecordedStudy, StudyFiles
from optstudy.workloads.datasets import DataChangedError
from optstudy.workloads.user_code import sources

EXCLUDED = ("source", "label", "colour", "style", "cite")  # fields of a space that do not affect results


def check_fingerprint(
    files: StudyFiles,
    recorded: RecordedStudy | None,
    specification: Specification,
    spaces: Mapping[str, Space],
    versions: Mapping[str, str],
) -> dict[str, Any]:
    """Return the fingerprint of a study: everything except its specification that its results depend on.

    Args:
        files: The study's files.
        recorded: The study as recorded; None if it is new.
        specification: Its specification.
        spaces: Spaces of the optimizers to run; what is recorded of others is neither checked nor changed.
        versions: Versions of packages.

    Raises:
        ChangedStudyError: If the fingerprint has changed since the study began.
    """
    references = [specification.dataset, specification.model, specification.loss]
    fingerprint: dict[str, dict[str, Any]] = {
        "spaces": {name: _searched_form(space) for name, space in spaces.items()},
        "sources": {reference: sources(reference) for reference in references}
        | {space.optimizer: _optimizer_sources(space) for space in spaces.values()},
        "versions": dict(versions),
    }
    before = recorded.fingerprint if recorded else {}
    for kind, now in fingerprint.items():
        for name, old in before.get(kind, {}).items():
            if now.get(name, old) != old and name != "optstudy":
                difference = _difference(kind, name, old, now[name])
                raise ChangedStudyError(files, difference, _remedy(kind, name, old, now[name], spaces))
    return before | {kind: {**before.get(kind, {}), **now} for kind, now in fingerprint.items()}


def check_data(fingerprint: Mapping[str, Any], data: DatasetDescription) -> dict[str, Any]:
    """Return the fingerprint with the checksum of the data.

    Raises:
        DataChangedError: If the data have changed since the study began.
    """
    if fingerprint.get("data", {}).get(data.name, data.checksum) != data.checksum:
        raise DataChangedError(data.name)
    return {**fingerprint, "data": {data.name: data.checksum}}


def check_specification(
    recorded: RecordedStudy | None, specification: Specification, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the fingerprint with the hash of what the study began with; its runs are compared with no others.

    A study of the same name that began with something else has another hash. The keys that may grow, the optimizers'
    own files and the version of optstudy are no part of it. "" for a study that began before there were hashes.
    """
    if recorded is not None:
        return {**fingerprint, "specification": recorded.fingerprint.get("specification", "")}
    keys = {key: value for key, value in specification.to_keys().items() if not KEYS[key].grows}
    references = (specification.dataset, specification.model, specification.loss)
    began = {
        "keys": keys,
        "data": fingerprint["data"],
        "sources": {reference: fingerprint["sources"][reference] for reference in references},
        "versions": {name: item for name, item in fingerprint["versions"].items() if name != "optstudy"},
    }
    return {**fingerprint, "specification": _hash(began)}


def space_hash(space: Space) -> str:
    """Return a hash of what a search of the space depends on."""
    return _hash(_searched_form(space))


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:24]


def _optimizer_sources(space: Space) -> dict[str, str]:
    try:
        return sources(space.optimizer)
    except UsageError as error:
        raise UsageError(f"{space.source}: {error}") from None


def _difference(kind: str, name: str, old: Any, new: Any) -> str:
    if kind == "versions":
        return f"{name} {old}, not {new}"
    keys = ", ".join(_differing(old, new))
    return f"a different space of {name} ({keys} differ)" if kind == "spaces" else f"a different {keys}"


def _remedy(kind: str, name: str, old: Any, new: Any, spaces: Mapping[str, Space]) -> str:
    if kind == "versions":
        return ""
    if kind == "sources":
        options = " ".join(f"--accept-source {file}" for file in _differing(old, new))
        return (
            f"restore the recorded version, or, if the change alters no number of the finished runs, give {options}"
            " (they keep the hash that they were computed with, and the other runs are computed with the new file)"
        )
    before, now = _entries(old), _entries(new)
    lines = [
        f"{entry} = {json.dumps(before[entry])}" if entry in before else f"no {entry}"
        for entry in _differing(before, now)
    ]
    return f"restore {', '.join(lines)} in {spaces[name].source}"


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [key for key in {**old, **new} if old.get(key) != new.get(key)]


def _entries(form: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a space's form, named as in its file: ``[search.lr] high``."""
    tables = {key: value for key, value in form.items() if isinstance(value, Mapping)}
    tables |= {f"search.{item['name']}": item for item in form["search"]}
    entries = {
        f"[{table}] {key}": value for table, content in tables.items() for key, value in content.items()
    }
    return entries | {key: value for key, value in form.items() if key not in (*tables, "search")}


def _searched_form(space: Space) -> dict[str, Any]:
    """Return a space as JSON, without the fields that do not affect a search."""
    content = to_form(space)
    search = [
        {name: item for name, item in dimension.items() if name != "why"} for dimension in content["search"]
    ]
    return {name: item for name, item in content.items() if name not in EXCLUDED} | {"search": search}
