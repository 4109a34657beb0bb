"""A provenance is restored from tags, and its differences are listed in order of importance."""

from dataclasses import replace

from optstudy.records.metrics import Tag, provenance_tags, read_provenance
from optstudy.records.provenance import Provenance

RECORDED = Provenance(
    {"optstudy": "0.1.0", "torch": "2.9.0"},
    {"processor": "A", "python": "3.11.7"},
    "0d94",
    {"net.py": 64 * "a", "data.py": 64 * "b"},
)


def test_a_provenance_is_restored_from_its_tags() -> None:
    tags = provenance_tags(RECORDED)

    assert read_provenance(tags | {"optstudy.study": "mine", "mlflow.user": "me"}) == RECORDED
    assert tags["optstudy.version.torch"] == "2.9.0"
    assert tags["optstudy.environment.processor"] == "A"
    assert tags["optstudy.data"] == "0d94"
    assert Provenance.from_details(RECORDED.details, RECORDED.sources) == RECORDED


def test_user_files_are_tagged_unless_they_are_too_many_for_a_tag() -> None:
    few = replace(RECORDED, sources={f"folder/{number}.py": 64 * "a" for number in range(20)})
    many = replace(RECORDED, sources={f"folder/{number}.py": 64 * "a" for number in range(200)})

    assert read_provenance(provenance_tags(few)).sources == few.sources
    assert Tag.SOURCES not in provenance_tags(many)
    assert read_provenance(provenance_tags(many)).sources is None
    assert read_provenance({Tag.SOURCES: "no JSON"}).sources is None


def test_differences_have_labels_and_the_most_important_is_first() -> None:
    current = Provenance(
        {"optstudy": "0.1.0", "torch": "2.14.1"},
        {"processor": "B", "lock": "1234"},
        "0d94",
        {"net.py": 64 * "a", "data.py": 64 * "c", "more.py": 64 * "d"},
    )

    differences = RECORDED.differences(current)

    assert list(differences.items()) == [
        ("data.py", (16 * "b", 16 * "c")),
        ("more.py", ("none", 16 * "d")),
        ("torch", ("2.9.0", "2.14.1")),
        ("processor", ("A", "B")),
        ("Python", ("3.11.7", "none")),
    ]
    assert RECORDED.unrecorded(current) == ["lock"]
    assert replace(RECORDED, sources=None).unrecorded(current) == ["the user's files", "lock"]
    assert RECORDED.differences(RECORDED) == {}


def test_entries_of_different_machines_are_joined() -> None:
    provenance = RECORDED.with_machines(
        [{"processor": "B", "threads": "1"}, {"processor": "C", "threads": "1"}]
    )

    assert provenance.environment == {"processor": "B; C", "python": "3.11.7", "threads": "1"}
