"""The report: a self-contained page, and beside it what a paper takes from it."""

from optstudy.report.archive import RUNS, Archive, read_archive
from optstudy.report.building import build_report

__all__ = ["RUNS", "Archive", "build_report", "read_archive"]
