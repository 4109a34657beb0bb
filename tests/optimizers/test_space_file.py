"""Space files: what is read from them, and the sentence that each mistake in one becomes."""

import json
import math
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optstudy.errors import UsageError
from optstudy.optimizers import find_spaces, load_space, parse_space
from optstudy.optimizers.space_file import key_table
from optstudy.records.look import Look, derive_look
from optstudy.records.space import Choice, Range, Space

NOWHERE = Path("no-such-workspace")  # only the packaged spaces
PACKAGED = sorted(find_spaces(NOWHERE))
COMPARED = ("adagrad", "adahessian", "adam", "sgd")  # what the paper compares

VALID = """
optimizer = "torch.optim.Adam"
[tuples]
betas = ["beta_1", "beta_2"]
[fixed]
beta_2 = 0.999
eps = 1e-8
[search.lr]
low = 1e-4
high = 0.1
log = true
why = "Three decades."
[search.beta_1]
low = 0.0
high = 0.99
log = true
complement = true
why = "Even in the number of steps averaged."
[search.amsgrad]
choices = [true, false]
why = "Both are used."
[default]
lr = 1e-3
beta_1 = 0.9
amsgrad = false
[paper]
lr = 1e-2
eps = 1e-4
"""


def written(folder: Path, text: str, name: str = "lion") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_valid_file_is_read_whole(tmp_path: Path) -> None:
    path = written(tmp_path, VALID)

    assert parse_space(path) == Space(
        name="lion",
        optimizer="torch.optim.Adam",
        needs="",
        seeded=False,
        hessian_products=0,
        tuples={"betas": ("beta_1", "beta_2")},
        fixed={"beta_2": 0.999, "eps": 1e-8},
        search=(
            Range("lr", 1e-4, 0.1, log=True, complement=False, integer=False, why="Three decades."),
            Range(
                "beta_1",
                0.0,
                0.99,
                log=True,
                complement=True,
                integer=False,
                why="Even in the number of steps averaged.",
            ),
            Choice("amsgrad", (True, False), "Both are used."),
        ),
        default={"lr": 1e-3, "beta_1": 0.9, "amsgrad": False},
        paper={"lr": 1e-2, "eps": 1e-4},
        source=path,
    )


def test_a_file_may_set_label_colour_style_and_citation(tmp_path: Path) -> None:
    entry = "@misc{lion2023,\n  title = {Lion}\n}"
    keys = f"label = 'Lion'\ncolour = '#123aBC'\nstyle = '-.^'\ncite = \"\"\"{entry}\"\"\"\n[tuples]"

    look = parse_space(written(tmp_path, VALID.replace("[tuples]", keys))).look

    assert look == Look("Lion", "#123aBC", "-.^", entry)
    assert (look.line, look.marker) == ("-.", "^")


def test_an_optimizer_without_a_label_is_labelled_by_its_name(tmp_path: Path) -> None:
    assert parse_space(written(tmp_path, VALID)).look == derive_look("lion")
    assert derive_look("lion").label == "lion"


def test_the_table_of_keys_has_each_key_once_and_all_that_files_use() -> None:
    table = key_table()
    names = {(key.group, key.name) for key in table}
    files = [tomllib.loads(path.read_text()) for path in find_spaces(NOWHERE).values()]
    searched = {
        ("[search.NAME]", key) for file in files for entry in file["search"].values() for key in entry
    }
    top = {
        ("tables" if isinstance(value, dict) else "", key) for file in files for key, value in file.items()
    }

    assert len(names) == len(table)
    assert top | searched <= names
    assert all(key.meaning.endswith(".") and key.values for key in table)


@pytest.mark.parametrize(("place", "in_search"), [("[tuples]", False), ("low = 1e-4", True)])
def test_the_error_of_an_unknown_key_lists_the_known_keys(
    place: str, in_search: bool, tmp_path: Path
) -> None:
    names = sorted(key.name for key in key_table() if (key.group == "[search.NAME]") == in_search)

    with pytest.raises(UsageError, match=f"unknown 'zzzz'; there are {', '.join(names)}$"):
        parse_space(written(tmp_path, VALID.replace(place, f"zzzz = 0\n{place}", 1)))


def test_arguments_join_fixed_values_and_gather_tuples(tmp_path: Path) -> None:
    space = parse_space(written(tmp_path, VALID))

    assert space.arguments({"lr": 0.02, "beta_1": 0.8, "amsgrad": True}) == {
        "eps": 1e-8,
        "lr": 0.02,
        "amsgrad": True,
        "betas": (0.8, 0.999),
    }


def test_arguments_without_a_part_of_a_tuple_are_refused(tmp_path: Path) -> None:
    space = parse_space(written(tmp_path, VALID))

    with pytest.raises(UsageError, match="lion is not configured: beta_1 missing"):
        space.arguments({"lr": 0.02})


def test_the_papers_configuration_is_filled_up_with_defaults_and_keeps_its_own_fixed_values(
    tmp_path: Path,
) -> None:
    space = parse_space(written(tmp_path, VALID))

    assert space.config("paper") == {"lr": 1e-2, "beta_1": 0.9, "amsgrad": False, "eps": 1e-4}
    assert space.arguments(space.config("paper"))["eps"] == 1e-4


def test_a_space_without_paper_values_has_none() -> None:
    with pytest.raises(UsageError, match=r"adamw\.toml: no \[paper\] values"):
        load_space("adamw", NOWHERE).config("paper")


def test_outside_names_every_value_that_keeps_a_configuration_out(tmp_path: Path) -> None:
    space = parse_space(written(tmp_path, VALID))

    assert space.violations({"lr": 0.5, "amsgrad": 1, "eps": 1e-4, "rho": 0.1}) == [
        "beta_1 is missing",
        "lr is 0.5, not from 0.0001 to 0.1",
        "amsgrad is 1, not one of True, False",
        "eps is 0.0001, not the fixed 1e-08",
        "rho is not a hyperparameter of lion",
    ]


MISTAKES = {
    "optimizer = ": "not a TOML file: ",
    'optimizer = "x"': r"\[search\] is missing or empty",
    ("[default]", "[defaults]"): "the file has unknown 'defaults' [(]did you mean 'default'",
    ('optimizer = "torch.optim.Adam"', ""): "optimizer is missing; give a class path",
    ('optimizer = "torch.optim.Adam"', "optimizer = 3"): "optimizer is 3; give a class path",
    ("[tuples]", 'needs = "logit"\n[tuples]'): "needs is 'logit'; give one of '', 'closure'",
    ("[tuples]", "seeded = 1\n[tuples]"): "seeded is 1; give true or false",
    ("[tuples]", "hessian_products = -1\n[tuples]"): "hessian_products is -1; give a whole number",
    ("[tuples]", "hessian_products = true\n[tuples]"): "hessian_products is True; give a whole number",
    ('["beta_1", "beta_2"]', '["beta_1", "beta2"]'): "betas has unknown 'beta2' [(]did you mean 'beta_2'",
    ('["beta_1", "beta_2"]', "[]"): r"\[tuples\] betas is \[\]; give a list of names",
    ("betas =", "eps ="): r"\[tuples\] eps is also under \[search\] or \[fixed\]",
    ("eps = 1e-8", "eps = nan"): r"\[fixed\] eps is nan; give a finite number",
    ("eps = 1e-8", "lr = 0.1"): r"lr is under both \[search\] and \[fixed\]",
    ("eps = 1e-8", "eps = {}"): r"\[fixed\] eps is \{\}; give a number",
    ("low = 1e-4", "low = 0.3"): r"\[search\] lr has low 0\.3 above high 0\.1; swap them or widen the range",
    ("low = 1e-4", "low = 0.1"): r"\[search\] lr has low and high both 0\.1; widen",
    ("low = 1e-4", "low = 0.0"): r"\[search\] lr has low 0; log needs low above 0",
    ("low = 1e-4", "low = -inf"): r"\[search\] lr low is -inf; give a finite number",
    ("low = 1e-4", 'low = "1e-4"'): r"\[search\] lr low is '1e-4'; give a finite number",
    ("low = 1e-4", "low = true"): r"\[search\] lr low is True; give a finite number",
    ("low = 1e-4", ""): r"\[search\] lr has no low; give low and high, or choices",
    ("low = 1e-4", "low = 1e-4\nstep = 2"): r"\[search\] lr has unknown 'step'",
    ("low = 1e-4", "low = 1e-4\nlogg = true"): r"\[search\] lr has unknown 'logg' [(]did you mean 'log'",
    ("low = 1e-4", "low = 1e-4\ninteger = true"): r"integer needs low and high without a decimal point",
    ("low = 1e-4", "low = 1e-4\nchoices = [1]"): r"\[search\] lr has both choices and low; keep one",
    ("high = 0.99", "high = 1.0"): r"\[search\] beta_1 has high 1; log of 1 - beta_1 needs high below 1",
    ("high = 0.99", "high = 0.99\ninteger = true"): "beta_1 has both integer and complement",
    ("log = true\nwhy", 'log = "yes"\nwhy'): r"\[search\] lr log is 'yes'; give true or false",
    ('why = "Three decades."', ""): r"\[search\] lr why is missing; give a sentence",
    ('why = "Three decades."', 'why = " "'): r"\[search\] lr why is ' '; give a sentence",
    ("[true, false]", "[]"): r"\[search\] amsgrad has choices \[\]; give a list of at least one",
    ("[true, false]", "true"): r"\[search\] amsgrad has choices True; give a list",
    ("[true, false]", "[true, true]"): r"\[search\] amsgrad has the choice True twice",
    ("[true, false]", "[false, [1]]"): r"\[search\] amsgrad choices is \[1\]; give a number",
    ("lr = 1e-3", ""): r"\[default\] lr is missing; give the library's default",
    ("lr = 1e-3", "lr = 5.0"): r"\[default\] lr is 5\.0, not from 0\.0001 to 0\.1; give",
    ("lr = 1e-3", "lr = 1e-3\nmomentum = 0"): r"\[default\] has unknown 'momentum'",
    ("amsgrad = false", 'amsgrad = "no"'): r"\[default\] amsgrad is 'no', not one of True, False",
    ("lr = 1e-2", 'lr = "high"'): r"\[paper\] lr is 'high'; give a finite number",
    ("lr = 1e-2", "lrr = 1e-2"): r"\[paper\] has unknown 'lrr' [(]did you mean 'lr'",
    ("[tuples]", "label = ''\n[tuples]"): r"label is ''; give a name of one line",
    ("[tuples]", 'label = "two\\nlines"\n[tuples]'): r"label is 'two\\nlines'; give a name of one line",
    ("[tuples]", "colour = 'orange'\n[tuples]"): "colour is 'orange'; give a colour such as \"#D55E00\"",
    ("[tuples]", "style = '-.'\n[tuples]"): "style is '-.'; give a matplotlib line style and marker",
    ("[tuples]", "cite = 3\n[tuples]"): "cite is 3; give the key of a BibTeX entry, or an entry",
    ("[tuples]", "cite = '@misc{lion'\n[tuples]"): "cite is '@misc{lion'; give the key of a BibTeX entry",
    ("[tuples]", "color = '#D55E00'\n[tuples]"): "the file has unknown 'color' [(]did you mean 'colour'",
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.items(), ids=map(str, range(len(MISTAKES))))
def test_an_error_names_the_file_the_key_and_a_valid_value(
    change: str | tuple[str, str], message: str, tmp_path: Path
) -> None:
    text = change if isinstance(change, str) else VALID.replace(*change, 1)
    path = written(tmp_path, text)
    assert text != VALID

    with pytest.raises(UsageError, match=message) as caught:
        parse_space(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_seed_argument_with_seeded_is_an_error(tmp_path: Path) -> None:
    text = VALID.replace("[tuples]", "seeded = true\n[tuples]").replace("eps = 1e-8", "seed = 1")

    with pytest.raises(UsageError, match="seed is given, but seeded = true uses the seed of the run"):
        parse_space(written(tmp_path, text.replace("eps = 1e-4", "")))


def test_a_binary_or_missing_file_is_a_one_line_error(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(UsageError, match=r"binary\.toml: not a text file in UTF-8"):
        parse_space(tmp_path / "binary.toml")
    with pytest.raises(UsageError, match=r"absent\.toml: cannot be read \(No such file"):
        parse_space(tmp_path / "absent.toml")


def test_the_workspaces_file_takes_precedence_over_the_packaged_one(tmp_path: Path) -> None:
    own = written(tmp_path / "tuning" / "spaces", VALID, name="adam")
    new = written(tmp_path / "tuning" / "spaces", VALID)

    spaces = find_spaces(tmp_path)

    assert (spaces["adam"], spaces["lion"]) == (own, new)
    assert list(spaces) == sorted({*PACKAGED, "lion"})
    assert load_space("adam", tmp_path).config("paper")["lr"] == 1e-2


def test_the_error_of_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        UsageError, match=r"'Adamm' [(]did you mean 'adam'[?][)]; there are adagrad, adahessian, adam,"
    ):
        load_space("Adamm", NOWHERE)


def test_reading_spaces_imports_neither_torch_nor_optuna() -> None:
    program = (
        "import sys; from pathlib import Path; from optstudy.optimizers import load_space;"
        "load_space('adam', Path('.')); print({'torch', 'optuna'} & sys.modules.keys())"
    )

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", PACKAGED)
def test_every_packaged_configuration_lies_inside_its_space(name: str) -> None:
    space = load_space(name, NOWHERE)

    assert space.violations(space.config("default")) == []
    assert space.paper is None or space.violations(space.config("paper")) == []


def test_the_four_that_the_paper_compares_have_its_values() -> None:
    assert {name for name in PACKAGED if load_space(name, NOWHERE).paper is not None} == set(COMPARED)


def test_weight_decay_and_the_width_of_the_learning_rate_are_the_same_for_all() -> None:
    searches = [{d.name: d for d in load_space(name, NOWHERE).search} for name in PACKAGED]
    decays = [search["weight_decay"] for search in searches]
    rates = [search["lr"] for search in searches]

    assert {d.choices for d in decays if isinstance(d, Choice)} == {(0.0, 1e-5, 1e-4, 1e-3, 1e-2)}
    assert all(isinstance(r, Range) and r.log and math.isclose(r.high / r.low, 1000) for r in rates)


# A slow machine is no failure.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

names = st.from_regex(r"[a-z][a-z_]{0,7}", fullmatch=True).filter(lambda name: name != "seed")
sentences = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
numbers = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def ranges(draw: st.DrawFn, name: str) -> Range:
    log, complement, integer = draw(
        st.sampled_from([(0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0), (0, 0, 1), (1, 0, 1)])
    )
    ends: Any = st.integers(1, 999) if integer else st.floats(1e-6, 0.999)
    low, high = sorted(draw(st.lists(ends, min_size=2, max_size=2, unique=True)))
    flags = {"log": bool(log), "complement": bool(complement), "integer": bool(integer)}
    return Range(name, low, high, **flags, why=draw(sentences))


@st.composite
def choices(draw: st.DrawFn, name: str) -> Choice:
    values = st.one_of(
        st.booleans(), st.integers(2, 99), numbers.filter(lambda v: not v.is_integer()), sentences
    )
    return Choice(name, tuple(draw(st.lists(values, min_size=1, max_size=4, unique=True))), draw(sentences))


def inside(dimension: Range | Choice) -> st.SearchStrategy[Any]:
    if isinstance(dimension, Choice):
        return st.sampled_from(dimension.choices)
    if dimension.integer:
        return st.integers(int(dimension.low), int(dimension.high))
    return st.floats(dimension.low, dimension.high)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    used = draw(st.lists(names, min_size=2, max_size=6, unique=True))
    split = draw(st.integers(1, len(used) - 1))
    search = tuple(draw(st.one_of(ranges(name), choices(name))) for name in used[:split])
    parts = draw(st.lists(st.sampled_from(used), max_size=3, unique=True))
    return Space(
        name="made",
        optimizer=draw(sentences),
        needs=draw(st.sampled_from(["", "closure"])),
        seeded=draw(st.booleans()),
        hessian_products=draw(st.integers(0, 5)),
        tuples={"gathered_up": tuple(parts)} if parts else {},
        fixed={name: draw(numbers) for name in used[split:]},
        search=search,
        default={dimension.name: draw(inside(dimension)) for dimension in search},
        paper=draw(st.none() | st.fixed_dictionaries({d.name: inside(d) for d in search})),
        source=Path("made.toml"),
    )


def as_toml(space: Space) -> str:
    """Write a space as a person would; JSON's scalars and lists are TOML's."""

    def line(name: str, value: Any) -> str:
        return f"{name} = {json.dumps(value, ensure_ascii=False)}\n"

    def table(title: str, values: dict[str, Any]) -> str:
        return f"[{title}]\n" + "".join(line(name, value) for name, value in values.items())

    def entry(dimension: Range | Choice) -> str:
        values = {key: value for key, value in vars(dimension).items() if key != "name"}
        return table(f"search.{dimension.name}", values)

    top = ("optimizer", "needs", "seeded", "hessian_products")
    return (
        "".join(line(name, getattr(space, name)) for name in top)
        + table("tuples", space.tuples)
        + table("fixed", space.fixed)
        + "".join(entry(dimension) for dimension in space.search)
        + table("default", space.default)
        + (table("paper", space.paper) if space.paper is not None else "")
    )


@unhurried
@given(space=spaces())
def test_any_valid_space_written_as_toml_is_read_back_the_same(
    space: Space, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = written(tmp_path_factory.getbasetemp(), as_toml(space), name="made")

    assert parse_space(path) == Space(**(vars(space) | {"source": path}))


@unhurried
@given(data=st.data(), space=spaces())
def test_a_value_drawn_inside_is_contained_and_reaches_the_constructor(
    data: st.DataObject, space: Space
) -> None:
    params = {dimension.name: data.draw(inside(dimension)) for dimension in space.search}

    arguments = space.arguments(params)

    assert space.contains(params)
    parts = space.tuples.get("gathered_up", ())
    spread = {**arguments, **dict(zip(parts, arguments.get("gathered_up", ()), strict=True))}
    assert {name: spread[name] for name in (*params, *space.fixed)} == {**params, **space.fixed}
    assert arguments.keys() == {*params, *space.fixed, *space.tuples} - set(parts)


@unhurried
@given(data=st.data(), space=spaces())
def test_only_the_value_outside_its_range_is_reported(data: st.DataObject, space: Space) -> None:
    params = {dimension.name: data.draw(inside(dimension)) for dimension in space.search}
    moved = data.draw(st.sampled_from(space.search))
    wrong = (
        "no such choice anywhere"
        if isinstance(moved, Choice)
        else data.draw(st.sampled_from([-1, 1e9, math.nan]))
    )

    outside = space.violations(params | {moved.name: wrong})

    assert len(outside) == 1
    assert outside[0].startswith(f"{moved.name} is ")
