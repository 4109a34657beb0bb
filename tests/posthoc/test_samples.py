"""Which training images are measured on, as a user names them."""

from pathlib import Path
from typing import Any

import cases
import pytest

from optstudy.errors import UsageError
from optstudy.posthoc.request import CurvatureRequest
from optstudy.posthoc.samples import Sample, choose_samples, count_images, read_indices

OWN = Sample(20, seed=7)


def asked(**changes: Any) -> CurvatureRequest:
    return CurvatureRequest(target="tiny", **changes)


def test_a_run_is_measured_on_its_own_sample_by_default() -> None:
    assert choose_samples(asked(), OWN, total=300) == ([OWN], None)


@pytest.mark.parametrize("samples", ["all", 300])
def test_all_images_are_all_however_they_are_named(samples: int | str) -> None:
    assert choose_samples(asked(samples=samples), OWN, total=300) == ([Sample(None, 7)], None)


def test_a_sample_beyond_the_data_is_all_images_with_a_notice() -> None:
    samples, notice = choose_samples(asked(samples=1000), OWN, total=300)

    assert samples == [Sample(None, 7)]
    assert notice == "there are 300 training examples; a larger sample uses all of them"


def test_one_size_is_one_sample() -> None:
    assert choose_samples(asked(samples=100), OWN, total=300) == ([Sample(100, 7)], None)


def test_a_sweep_has_several_draws_of_each_size_and_all_images_once() -> None:
    samples, notice = choose_samples(asked(sweep=(10, 100, 300, 1000, "all"), draws=2), OWN, total=300)

    assert samples == [Sample(10, 7), Sample(10, 8), Sample(100, 7), Sample(100, 8), Sample(None, 7)]
    assert notice is not None


def test_images_are_counted_as_runs_train_on_them(tmp_path: Path) -> None:
    with cases.project(tmp_path):
        assert count_images(cases.plan()) == cases.TRAIN


def test_indices_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "indices.txt"
    path.write_bytes(b"\xef\xbb\xbf5\r\n\r\n 0 \n299")

    assert read_indices(path, total=300) == (5, 0, 299)
    assert choose_samples(asked(indices=path), OWN, total=300) == ([Sample(None, 7, (5, 0, 299))], None)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", " contains no example index; give a text file with one example index per line"),
        (b"\n \n", " contains no example index; give a text file with one example index per line"),
        (b"1\ntwo\n", ", line 2: 'two' is not an example index; write one whole number per line"),
        (b"-1\n", ", line 1: '-1' is not an example index; write one whole number per line"),
        (b"1.5\n", ", line 1: '1.5' is not an example index; write one whole number per line"),
        (b"1,2\n", ", line 1: '1,2' is not an example index; write one whole number per line"),
        ("²\n".encode(), ", line 1: '²' is not an example index; write one whole number per line"),
        (b"5\n300\n", ", line 2: there is no training example 300; indices are 0 to 299"),
        (b"9" * 5000, f", line 1: there is no training example {'9' * 40}; indices are 0 to 299"),
        (b"\xff\xfe\x00", ": not a text file in UTF-8; give a text file with one example index per line"),
        (
            None,
            ": cannot be read (No such file or directory); give a text file with one example index per line",
        ),
    ],
)
def test_a_file_that_does_not_say_which_images_is_refused_with_its_line(
    content: bytes | None, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "indices.txt"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        read_indices(path, total=300)

    assert str(raised.value) == f"{path}{said}"


def test_an_image_named_more_than_once_is_taken_as_often_and_counted_in_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "indices.txt"
    path.write_bytes(b"4\n5\n4\n7\n5\n4\n")

    [sample], notice = choose_samples(asked(indices=path), OWN, total=300)

    assert (sample.indices, sample.size(300)) == ((4, 5, 4, 7, 5, 4), 6)
    assert notice == f"{path} names 2 examples more than once; each counts as often as named"
