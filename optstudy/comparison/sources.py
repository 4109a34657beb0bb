"""User's files that were not the same for all trials and final runs of a study."""

from collections import Counter
from dataclasses import dataclass

from optstudy.records.evidence import Evidence


@dataclass(frozen=True)
class SourceVersion:
    """One version of a user's file, and the number of trials and final runs that were computed with it."""

    study: str
    file: str
    hash: str  # SHA-256
    trials: int  # of searches
    runs: int  # final runs


def differing_sources(evidence: Evidence) -> tuple[SourceVersion, ...]:
    """Return the versions of each file that a study has in several versions, those of its searches first."""
    trials: Counter[tuple[str, str, str]] = Counter()
    runs: Counter[tuple[str, str, str]] = Counter()
    for search in evidence.searches:
        for file, counts in search.sources.items():
            for digest, count in counts.items():
                trials[search.study, file, digest] += count
    for final in evidence.runs:
        for file, digest in (final.run.provenance.sources or {}).items():
            runs[final.run.study, file, digest] += 1
    versions = dict.fromkeys([*trials, *runs])
    several = Counter((study, file) for study, file, _ in versions)
    return tuple(
        SourceVersion(*version, trials[version], runs[version])
        for version in sorted(versions, key=lambda version: version[:2])
        if several[version[:2]] > 1
    )
