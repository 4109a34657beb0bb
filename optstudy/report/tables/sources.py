"""Sentences on source files that were not the same for all trials and final runs of a study."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from optstudy.comparison.sources import SourceVersion
from optstudy.report.tables.table import count_label

SHOWN = 12  # characters of a hash


def source_sentences(versions: Sequence[SourceVersion]) -> list[str]:
    """Name the versions of each file, with the number of trials and final runs that were computed with each."""
    return [
        f"Study {study} was computed with several versions of {file}, a change that its user accepted: {label}."
        for study, file, label in version_labels(versions)
    ]


def version_labels(versions: Sequence[SourceVersion]) -> Iterator[tuple[str, str, str]]:
    """Yield study and file, and the hashes of the file's versions with their numbers of trials and final runs."""
    for (study, file), group in groupby(versions, key=lambda version: (version.study, version.file)):
        yield study, file, ", ".join(f"{version.hash[:SHOWN]} ({_counts(version)})" for version in group)


def _counts(version: SourceVersion) -> str:
    counts = {"trial": version.trials, "final run": version.runs}
    return ", ".join(count_label(noun, [count]) for noun, count in counts.items() if count)
