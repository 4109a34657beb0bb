"""What a run rests on survives its tags, and differences are told in the order of what numbers depend on most."""

from dataclasses import replace

from optstudy.records.metrics import Tag, provenance_tags, read_provenance
from optstudy.records.provenance import Provenance

THERE = Provenance(
    {"optstudy": "0.1.0", "torch": "2.9.0"},
    {"processor": "A", "python": "3.11.7"},
    "0d94",
    {"net.py": 64 * "a", "data.py": 64 * "b"},
)


def test_tags_tell_all_of_it() -> None:
    tags = provenance_tags(THERE)

    assert read_provenance(tags | {"optstudy.study": "mine", "mlflow.user": "me"}) == THERE
    assert tags["optstudy.version.torch"] == "2.9.0"
    assert tags["optstudy.environment.processor"] == "A"
    assert tags["optstudy.data"] == "0d94"
    assert Provenance.from_details(THERE.details, THERE.sources) == THERE


def test_files_are_named_in_a_tag_unless_it_would_be_cut() -> None:
    few = replace(THERE, sources={f"folder/{number}.py": 64 * "a" for number in range(20)})
    many = replace(THERE, sources={f"folder/{number}.py": 64 * "a" for number in range(200)})

    assert read_provenance(provenance_tags(few)).sources == few.sources
    assert Tag.SOURCES not in provenance_tags(many)
    assert read_provenance(provenance_tags(many)).sources is None
    assert read_provenance({Tag.SOURCES: "no JSON"}).sources is None


def test_what_differs_is_told_by_name_and_most_important_first() -> None:
    here = Provenance(
        {"optstudy": "0.1.0", "torch": "2.14.1"},
        {"processor": "B", "lock": "1234"},
        "0d94",
        {"net.py": 64 * "a", "data.py": 64 * "c", "more.py": 64 * "d"},
    )

    found = THERE.differences(here)

    assert list(found.items()) == [
        ("data.py", (16 * "b", 16 * "c")),
        ("more.py", ("none", 16 * "d")),
        ("torch", ("2.9.0", "2.14.1")),
        ("processor", ("A", "B")),
        ("Python", ("3.11.7", "none")),
    ]
    assert THERE.unrecorded(here) == ["lock"]
    assert replace(THERE, sources=None).unrecorded(here) == ["the user's files", "lock"]
    assert THERE.differences(THERE) == {}


def test_machines_stand_side_by_side_where_they_differ() -> None:
    found = THERE.with_machines([{"processor": "B", "threads": "1"}, {"processor": "C", "threads": "1"}])

    assert found.environment == {"processor": "B; C", "python": "3.11.7", "threads": "1"}
