"""A missing part of the system skips a test, but not in CI."""

import pytest
from components import chromium


def test_without_chromium_the_tests_are_skipped_and_in_ci_they_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("OPTSTUDY_CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="chromium is not installed"):
        chromium()

    monkeypatch.setenv("OPTSTUDY_CI", "1")
    with pytest.raises(pytest.fail.Exception, match="chromium is not installed"):
        chromium()
