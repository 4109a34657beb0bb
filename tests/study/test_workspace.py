"""Where a study lives: what may still change, one driver at a time, files that are whole or absent."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optstudy.errors import OptstudyError, UsageError
from optstudy.records.io import write_bytes, write_json
from optstudy.records.location import study_names
from optstudy.records.naming import CONFIGS
from optstudy.study.keys import KEYS, OBJECTIVES, PRUNERS, SAMPLERS
from optstudy.study.specification import Specification
from optstudy.study.workspace import (
    ChangedStudyError,
    RecordedStudy,
    StudyFiles,
    free_name,
    locked,
    merge,
    read_recorded,
    write_recorded,
)

CHOICES = {"sampler": SAMPLERS, "pruner": PRUNERS, "objective": OBJECTIVES}
NAMES = st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=3, unique=True).map(tuple)
FIXED = [name for name, key in KEYS.items() if key.group == "study" and not key.grows]


def open_until(phase: str) -> list[str]:
    """Keys that may change until a phase begins."""
    phases = {"tuning": "tuning", "training": "training", "curvature": "training"}
    return [name for name, key in KEYS.items() if phases.get(key.group) == phase and not key.grows]


def values_of(key: str) -> st.SearchStrategy[Any]:
    """Return a strategy of what a key may be."""
    if key in CHOICES:
        return st.sampled_from(CHOICES[key])
    if key == "configs":
        return st.lists(st.sampled_from(CONFIGS), min_size=1, unique=True).map(tuple)
    kinds = {
        int: st.integers(1, KEYS[key].maximum or 10**12),
        bool: st.booleans(),
        float: st.floats(0, 1, exclude_min=True, exclude_max=True),
        str: st.text(min_size=1),
        tuple: NAMES,
    }
    return kinds[KEYS[key].kind]


specifications = st.fixed_dictionaries({name: values_of(name) for name in KEYS}).map(Specification.from_keys)


def another(key: str) -> Any:
    """Return a value of a key that is not the default."""
    default = KEYS[key].default
    if key in CHOICES:
        return next(name for name in CHOICES[key] if name != default)
    if isinstance(default, float):
        return default / 2
    return default + 1 if isinstance(default, int) else f"other_{default}"


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    return StudyFiles(tmp_path, "mine")


def begun(*phases: str) -> RecordedStudy:
    return RecordedStudy(Specification.from_keys({}), {}, phases)


@given(specification=specifications, phases=st.sampled_from([(), ("tuning",), ("training", "tuning")]))
def test_what_a_study_is_survives_the_disk(
    specification: Specification, phases: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    files = StudyFiles(tmp_path_factory.mktemp("study"), "mine")
    recorded = RecordedStudy(specification, {"versions": {"torch": "2"}}, phases)

    write_recorded(files, recorded)

    assert read_recorded(files) == recorded


ODD_FACTS = (
    '"spaces": 5', '"spaces": {"sgd": 5}', '"spaces": {"sgd": {}}', '"spaces": {"sgd": {"search": [5]}}',
    '"spaces": {"sgd": {"search": [{}]}}', '"sources": {"net.py:make": 5}', '"sources": {"net.py:make": {"net.py": 5}}',
    '"versions": {"torch": 2}', '"versions": []', '"data": {"mnist": null}', '"specification": 5', '"tracking": {}',
    '"accepted": 5', '"accepted": [5]', '"accepted": [{}]', '"accepted": [{"sources": {}}]', '"sourecs": {}',
    '"accepted": [{"sources": {}, "keys": [5]}]',
)  # fmt: skip


def test_a_study_that_was_never_run_is_not_recorded(files: StudyFiles) -> None:
    assert read_recorded(files) is None


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"specification": {}}', '{"specification": 3, "facts": {}, "begun": []}',
     '{"specification": {"trials": 0}, "facts": {}, "begun": []}',
     '{"specification": {}, "facts": 3, "begun": []}', '{"specification": {}, "facts": {}, "begun": [5]}',
     '{"specification": {"news": 1}, "facts": {}, "begun": []}', "\udcff", "[" * 100_000,
     '{"specification": {}, "facts": {}, "begun": [], "checksum": "0"}',
     '{"specification": {}, "facts": {}, "begun": [], "chacksum": "0"}',
     *(f'{{"specification": {{}}, "facts": {{{facts}}}, "begun": []}}' for facts in ODD_FACTS)],
    ids=range(14 + len(ODD_FACTS)),
)  # fmt: skip
def test_a_damaged_specification_is_one_line_that_says_which_file(content: str, files: StudyFiles) -> None:
    files.folder.mkdir(parents=True)
    files.specification.write_bytes(content.encode(errors="surrogateescape"))

    with pytest.raises(OptstudyError) as raised:
        read_recorded(files)

    assert str(raised.value).startswith(str(files.specification))
    assert str(raised.value).endswith(
        "; move it away and repeat the command that began the study, with the same settings: it finds the finished runs"
    )
    assert "\n" not in str(raised.value)


def test_new_optimizers_and_configs_are_added_to_the_recorded_ones(files: StudyFiles) -> None:
    old = RecordedStudy(Specification.from_keys({"optimizers": ("sgd", "adam")}), {}, ("tuning", "training"))

    merged = merge(files, old, {"optimizers": ("radam", "sgd"), "configs": ("paper",)})

    assert merged.optimizers == ("sgd", "adam", "radam")
    assert merged.configs == ("best", "paper")


@pytest.mark.parametrize(("key", "phase"), [("trials", "tuning"), ("seeds", "training")])
def test_trials_and_seeds_only_grow_once_there_are_some(key: str, phase: str, files: StudyFiles) -> None:
    default = KEYS[key].default

    assert merge(files, begun(phase), {key: default + 4}).to_keys()[key] == default + 4
    assert merge(files, begun(phase), {key: 1}).to_keys()[key] == default
    assert merge(files, begun(), {key: 1}).to_keys()[key] == 1


@pytest.mark.parametrize("key", open_until("tuning"))
def test_what_governs_tuning_may_change_until_tuning_begins(key: str, files: StudyFiles) -> None:
    value = another(key)

    assert merge(files, begun("training"), {key: value}).to_keys()[key] == value
    with pytest.raises(ChangedStudyError):
        merge(files, begun("tuning"), {key: value})


@pytest.mark.parametrize("key", open_until("training"))
def test_what_governs_training_may_change_until_training_begins(key: str, files: StudyFiles) -> None:
    value = another(key)

    assert merge(files, begun("tuning"), {key: value}).to_keys()[key] == value
    with pytest.raises(ChangedStudyError):
        merge(files, begun("training"), {key: value})


@pytest.mark.parametrize("key", FIXED)
def test_everything_else_is_fixed_with_the_study(key: str, files: StudyFiles) -> None:
    before, value = KEYS[key].default, another(key)

    with pytest.raises(ChangedStudyError) as raised:
        merge(files, begun("tuning"), {key: value})

    assert str(raised.value) == (
        f"study 'mine' was started with {key} {before}, not {value}; its results would not be comparable:"
        " use another name, such as --study mine-2"
    )


@given(specification=specifications)
def test_asking_again_for_what_a_study_is_changes_nothing(specification: Specification) -> None:
    old = RecordedStudy(specification, {}, ("tuning", "training"))

    asked = specification.to_keys()

    assert merge(StudyFiles(Path(), "mine"), old, asked) == specification


def test_a_wrong_value_is_refused_though_the_key_may_change(files: StudyFiles) -> None:
    with pytest.raises(UsageError, match=r"^tune_epochs is 0; it must be 1 or more$"):
        merge(files, begun(), {"tune_epochs": 0})


def test_a_free_name_is_one_that_no_study_has(tmp_path: Path) -> None:
    for name in ("mine", "mine-2", "mine-3", "other"):
        write_recorded(StudyFiles(tmp_path, name), begun())

    assert free_name(StudyFiles(tmp_path, "mine")) == "mine-4"
    assert free_name(StudyFiles(tmp_path, "mine-2")) == "mine-4"
    assert free_name(StudyFiles(tmp_path, "other")) == "other-2"


def test_studies_are_listed_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    assert study_names(tmp_path) == []
    for moment, name in enumerate(("second", "first", "third")):
        files = StudyFiles(tmp_path, name)
        write_recorded(files, begun())
        os.utime(files.specification, ns=(moment, {"first": 1, "second": 2, "third": 3}[name]))

    assert study_names(tmp_path) == ["first", "second", "third"]


def test_a_loop_of_links_hides_no_other_study(tmp_path: Path) -> None:
    files = StudyFiles(tmp_path, "mine")
    write_recorded(files, begun())
    (files.folder.parent / "loop").symlink_to("loop")
    (files.folder.parent / "other").mkdir()
    (files.folder.parent / "other" / "specification.json").symlink_to("specification.json")

    assert study_names(tmp_path) == ["mine"]


@pytest.mark.parametrize("name", ["x" * 201, "x" * 10_000])
def test_a_name_that_is_too_long_for_a_file_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="study name 'x{40}'...: use at most 200 characters"):
        StudyFiles(tmp_path, name)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "-x", "../up", "a b", "a\n", "é", "a\\b"])
def test_a_name_that_is_no_single_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="use letters, digits") as raised:
        StudyFiles(tmp_path, name)

    assert "\n" not in str(raised.value)


def test_a_study_has_one_driver_at_a_time_even_in_one_process(files: StudyFiles) -> None:
    with locked(files), pytest.raises(UsageError) as raised, locked(files):
        pass

    assert str(raised.value) == (
        f"study 'mine' is being run by process {os.getpid()}; wait for it or use another --study"
    )
    with locked(files):
        pass  # free again


def test_a_look_at_the_lock_does_not_refuse_a_driver_that_starts_in_that_moment(files: StudyFiles) -> None:
    with locked(files):
        pass
    with (files.folder / "lock").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)  # as `check_not_running` does
        threading.Timer(0.2, fcntl.flock, (looking, fcntl.LOCK_UN)).start()
        with locked(files):
            pass


def test_the_lock_goes_with_a_process_that_is_killed(files: StudyFiles) -> None:
    program = (
        "import sys, time; from pathlib import Path; from optstudy.study.workspace import StudyFiles, locked\n"
        "with locked(StudyFiles(Path(sys.argv[1]), 'mine')): print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(files.workspace)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    with holder, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"is being run by process {holder.pid}; "), locked(files):
            pass

        holder.send_signal(signal.SIGKILL)
        holder.wait()

        with locked(files):
            pass


def test_a_workspace_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tuning").write_text("a file where a folder should be")
    files = StudyFiles(tmp_path, "mine")

    with pytest.raises(OptstudyError) as raised, locked(files):
        pass

    assert (
        str(raised.value)
        == f"cannot write {files.folder / 'lock'}: Not a directory; choose another --workspace"
    )


def test_a_file_is_written_with_its_folders(tmp_path: Path) -> None:
    write_json(tmp_path / "new" / "deep" / "a.json", {"x": [1.5, None, "é"]})

    assert (tmp_path / "new" / "deep" / "a.json").read_text() == (
        '{\n  "x": [\n    1.5,\n    null,\n    "\\u00e9"\n  ]\n}\n'
    )


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OptstudyError) as raised:
        write_bytes(path, b"new")

    assert str(raised.value) == (
        f"cannot write {path}: No space left on device; free some space and run the same command again:"
        " nothing finished is lost"
    )
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_a_number_that_json_does_not_have_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))

    assert list(tmp_path.iterdir()) == []


def test_recording_keeps_the_latest(files: StudyFiles) -> None:
    write_recorded(files, begun())
    later = replace(begun("tuning"), specification=Specification.from_keys({"trials": 40}))
    write_recorded(files, later)

    assert read_recorded(files) == later
