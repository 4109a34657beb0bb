"""Presets and settings: what they become, and the one line that each mistake becomes."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optstudy.errors import UsageError
from optstudy.optimizers.catalogue import PACKAGED
from optstudy.records.naming import CONFIGS
from optstudy.study.keys import KEYS, OBJECTIVES, PRUNERS, SAMPLERS
from optstudy.study.presets import parse_setting, read_preset
from optstudy.study.specification import Specification, check_keys

PRESETS = sorted(path.stem for path in (PACKAGED / "presets").glob("*.toml"))


def own_preset(workspace: Path, text: str) -> Path:
    path = workspace / "tuning" / "presets" / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", PRESETS)
def test_a_packaged_preset_describes_a_study(name: str, tmp_path: Path) -> None:
    keys = read_preset(name, tmp_path)

    assert keys
    assert Specification.from_keys(keys).tuning.rounded_trials == keys["trials"]  # nothing is rounded up


def test_the_presets_of_the_documentation_are_packaged() -> None:
    assert set(PRESETS) >= {"smoke", "quick", "paper"}


def test_the_workspaces_own_preset_comes_before_the_packaged_one(tmp_path: Path) -> None:
    own_preset(tmp_path, "trials = 7").rename(tmp_path / "tuning" / "presets" / "quick.toml")

    assert read_preset("quick", tmp_path) == {"trials": 7}


def test_an_unknown_preset_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^no preset 'quik' \(did you mean 'quick'\?\); there are .*smoke"):
        read_preset("quik", tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trails = 3", "unknown key 'trails' (did you mean 'trials'?)"),
        ("trials = 0", "trials is 0; it must be 1 or more"),
        ("seeds = -2", "seeds is -2; it must be 1 or more"),
        ("seeds = 1_001", "seeds is 1001; it must be 1000 or less"),
        ("trials = 100_001", "trials is 100001; it must be 100000 or less"),
        ("train_epochs = 1_000_001", "train_epochs is 1000001; it must be 1000000 or less"),
        ("threads = 1025", "threads is 1025; it must be 1024 or less"),
        ("trials = '3'", "trials is '3'; it must be a whole number"),
        ("trials = true", "trials is True; it must be a whole number"),
        ("batch_size = 2.5", "batch_size is 2.5; it must be a whole number"),
        ("model = 5", "model is 5; it must be a string"),
        ("model = ''", "model has ''; it must be a name"),
        ("optimizers = 'sgd'", "optimizers is 'sgd'; it must be a list of names"),
        ("optimizers = []", "optimizers is empty; name at least one"),
        ("optimizers = ['sgd', 1]", "optimizers has 1; it must be a name"),
        ("sampler = 'tp'", "sampler is 'tp'; it must be tpe, gp, random or qmc (did you mean 'tpe'?)"),
        ("pruner = 'nothing'", "pruner is 'nothing'; it must be median, hyperband or none"),
        ("margin = 0", "margin is 0; it must be a fraction between 0 and 1"),
        ("margin = 1", "margin is 1; it must be a fraction between 0 and 1"),
        ("margin = -0.1", "margin is -0.1; it must be a fraction between 0 and 1"),
        ("margin = nan", "margin is nan; it must be a fraction between 0 and 1"),
        ("margin = 'x'", "margin is 'x'; it must be a number"),
        ("margin = true", "margin is True; it must be a number"),
        ("configs = ['bset']", "configs is 'bset'; it must be best, paper or default (did you mean 'best'?)"),
    ],
)
def test_a_mistake_in_a_preset_is_one_line_with_file_key_and_what_would_be_right(
    text: str, said: str, tmp_path: Path
) -> None:
    path = own_preset(tmp_path, text)

    with pytest.raises(UsageError) as raised:
        read_preset("mine", tmp_path)

    assert str(raised.value).startswith(f"{path}: {said}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"trials = ", b"\xff\xfe"])
def test_a_preset_that_is_no_toml_is_one_line_with_its_file(content: bytes, tmp_path: Path) -> None:
    path = own_preset(tmp_path, "")
    path.write_bytes(content)

    with pytest.raises(UsageError) as raised:
        read_preset("mine", tmp_path)

    assert str(raised.value).startswith(f"{path}: ")
    assert str(raised.value).count(str(path)) == 1
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("trials=12", ("trials", 12)),
        ("model=net.py:make", ("model", "net.py:make")),
        ("optimizers=sgd,adam", ("optimizers", ("sgd", "adam"))),
        ("dataset=a=b.py:load", ("dataset", "a=b.py:load")),
        ("margin=0.002", ("margin", 0.002)),
    ],
)
def test_a_setting_has_the_kind_of_its_key(text: str, setting: tuple[str, Any]) -> None:
    assert parse_setting(text) == setting


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trails=3", "did you mean 'trials'?"),
        ("trials", "lacks a value; write --set trials=VALUE"),
        ("trails", ": a study has no key 'trails' (did you mean 'trials'?)"),
        ("timeout=60", ": a study has no key 'timeout'; the keys are dataset, model"),
        ("=3", "the keys are dataset, model"),
        ("trials=many", "trials must be a whole number"),
        ("trials=", "trials must be a whole number"),
        ("margin=0,002", "margin must be a number"),
        ("margin", "lacks a value; write --set margin=VALUE"),
        ("eigen_last=every", "eigen_last must be a whole number or all"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_was_written(text: str, said: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_setting(text)

    assert str(raised.value).startswith(f"--set {text!r}")
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tune_epochs=0", "tune_epochs is 0; it must be 1 or more"),
        ("margin=2", "margin is 2; it must be a fraction between 0 and 1"),
    ],
)
def test_a_wrong_value_of_a_setting_is_refused_with_its_key(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"^{said}$"):
        check_keys(dict([parse_setting(text)]))


@given(st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_every_fraction_is_a_margin(margin: float) -> None:
    assert check_keys(dict([parse_setting(f"margin={margin!r}")])) == {"margin": margin}


@pytest.mark.parametrize(
    ("key", "names"), [("optimizers", ("adam", "sgd", "adam")), ("configs", ("best",) * 2)]
)
def test_a_name_given_twice_is_refused(key: str, names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=f"^{key} has '{names[0]}' more than once; name it once$"):
        Specification.from_keys({key: names})


@given(epochs=st.integers(1, 60), every=st.integers(0, 70))
def test_the_last_epoch_of_a_final_run_always_has_a_sweep(epochs: int, every: int) -> None:
    swept = Specification.from_keys({"train_epochs": epochs, "sweep_every": every}).training.sweep_epochs

    assert swept[-1] == epochs
    assert list(swept) == sorted(set(swept))
    assert all(epoch % every == 0 for epoch in swept[:-1])


@given(
    st.sampled_from(sorted(KEYS)),
    st.one_of(
        st.none(),
        st.floats().filter(lambda value: not 0 < value < 1),  # such a one is a margin
        st.binary(),
        st.dictionaries(st.text(), st.text()),
    ),
)
def test_a_value_of_no_kind_that_a_preset_has_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{key} is "):
        check_keys({key: value})


def test_every_choice_is_accepted() -> None:
    for key, names in (("sampler", SAMPLERS), ("pruner", PRUNERS), ("objective", OBJECTIVES)):
        for name in names:
            assert check_keys({key: name}) == {key: name}
    assert check_keys({"configs": list(CONFIGS)}) == {"configs": CONFIGS}


@given(st.data())
def test_a_specification_is_its_keys(data: st.DataObject) -> None:
    values = {
        name: data.draw(st.sampled_from([key.default, 3, "all"]))
        for name, key in KEYS.items()
        if key.allows_all
    }

    assert Specification.from_keys(Specification.from_keys(values).to_keys()) == Specification.from_keys(
        values
    )
    assert list(Specification.from_keys({}).to_keys()) == list(KEYS)


def test_every_key_says_what_it_means_and_what_it_may_be() -> None:
    for key in KEYS.values():
        assert key.meaning
        assert key.values
        assert key.check(key.default) == key.default
