"""The report: a self-contained page, and beside it what a paper takes from it."""

from optstudy.report.archive import Archive, read_archive
from optstudy.report.building import build_report

__all__ = ["Archive", "build_report", "read_archive"]
