"""Checksums of what a run has in MLflow, kept there as one of its tags, so that damage is noticed.

A checksum detects damage and edits by mistake; it is no signature.
"""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from optstudy.errors import OptstudyError
from optstudy.records.forms import from_form, from_json
from optstudy.records.io import CHECKSUM, checksum
from optstudy.records.metrics import FINAL, LONGEST_TAG, STEP_SECONDS, Tag

T = TypeVar("T")
DISAGREES = "does not agree with its checksum"
_DIGITS = 16  # of the SHA-256 of a metric, a parameter or a tag; a file has all 64
_ALL = "*"  # stands for all parameters, also those of users, if there are too many for a tag
# They may change after a run has ended, and are not read as its results.
_UNCHECKED_TAGS = (Tag.CHECKSUMS, Tag.PACE_CHECKSUM, Tag.SUPERSEDED, Tag.SPECIFICATION)
_METRICS = frozenset(metric.name for metric in FINAL) - {
    STEP_SECONDS
}  # which is logged after the run has ended


@dataclass(frozen=True)
class Damage:
    """A final run or a search whose record in MLflow is damaged, so that it is left out of comparisons."""

    subject: str  # STUDY/RUN, or "the search STUDY/OPTIMIZER"
    problem: str  # such as "its metric final/seconds does not agree with its checksum"
    remedy: str  # what restores it
    run_id: str = ""  # in MLflow

    def __str__(self) -> str:
        """Return a sentence without its full stop."""
        return f"{self.subject} is damaged: {self.problem}; {self.remedy}"


class DamagedError(OptstudyError):
    """A final run or a search is damaged in MLflow."""

    def __init__(self, damage: Damage) -> None:
        """Say what is damaged, and what restores it."""
        super().__init__(str(damage))
        self.damage = damage


@dataclass(frozen=True)
class Checksums:
    """Checksums of a run by name; those of files are whole SHA-256 digests."""

    files: Mapping[str, str]
    metrics: Mapping[str, str]
    params: Mapping[str, str]
    tags: Mapping[str, str]

    def to_tag(self) -> str:
        """Return the tag `Tag.CHECKSUMS`, which has a checksum itself."""
        groups = {"files": self.files, "metrics": self.metrics, "params": self.params, "tags": self.tags}
        text = json.dumps({**groups, CHECKSUM: checksum(groups)[:_DIGITS]}, separators=(",", ":"))
        if len(text) > LONGEST_TAG and _ALL not in self.params:
            return Checksums(self.files, self.metrics, _together(self.params), self.tags).to_tag()
        return text

    @classmethod
    def from_tag(cls, text: str) -> "Checksums":
        """Read the tag `Tag.CHECKSUMS`.

        Raises:
            OptstudyError: If the tag is damaged.
        """
        groups = from_json(dict[str, Any], text, f"its tag {Tag.CHECKSUMS}")
        if groups.pop(CHECKSUM, None) != checksum(groups)[:_DIGITS]:
            raise OptstudyError(f"its tag {Tag.CHECKSUMS} {DISAGREES}")
        return from_form(cls, groups, f"its tag {Tag.CHECKSUMS}")

    def of_study(self, params: Mapping[str, T]) -> dict[str, T]:
        """Return the parameters without those that a user has added in MLflow, where the names are recorded."""
        return {name: value for name, value in params.items() if name in self.params or _ALL in self.params}

    def differences(self, found: "Checksums") -> list[str]:
        """Return what differs in a run with the checksums ``found``, apart from its files.

        A parameter that was not recorded is the user's. A metric or tag that was not recorded is not read: a run that
        was logged twice may have those of both times.
        """
        params = _together(found.params) if _ALL in self.params else found.params
        groups = {
            "metric": (self.metrics, found.metrics),
            "parameter": (self.params, params),
            "tag": (self.tags, found.tags),
        }
        return [
            "its parameters do not agree with their checksum"
            if name == _ALL
            else f"its {kind} {name} is missing"
            if name not in now
            else f"its {kind} {name} {DISAGREES}"
            for kind, (before, now) in groups.items()
            for name in sorted(before)
            if before[name] != now.get(name)
        ]


@dataclass(frozen=True)
class RunContent:
    """What a run has in MLflow that is read again."""

    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # SHA-256 by name

    def checksums(self) -> Checksums:
        """Return the checksums of the files, and of the final metrics, parameters and tags of optstudy."""
        return Checksums(
            self.files,
            {name: metric_checksum(value) for name, value in self.metrics.items() if name in _METRICS},
            {name: _text_checksum(value) for name, value in self.params.items()},
            {name: _text_checksum(value) for name, value in self.tags.items() if is_checked(name)},
        )


def is_checked(tag: str) -> bool:
    """Whether a tag of this name has a checksum, if the run had it when it ended."""
    return tag.startswith(Tag.PREFIX) and tag not in _UNCHECKED_TAGS


def metric_checksum(value: float) -> str:
    """Return the checksum of a metric, the same for all stores: MLflow has no infinity, and SQLite no negative zero."""
    largest = sys.float_info.max
    return _text_checksum(repr(max(-largest, min(largest, float(value))) + 0.0))


def file_checksum(data: bytes) -> str:
    """Return the SHA-256 of a file's content."""
    return hashlib.sha256(data).hexdigest()


def _text_checksum(text: str) -> str:
    return file_checksum(text.encode())[:_DIGITS]


def _together(checksums: Mapping[str, str]) -> dict[str, str]:
    return {_ALL: checksum(checksums)}
