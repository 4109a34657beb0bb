"""A file of weights is read, or refused with what is wrong with it."""

import argparse
import importlib.util
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cases
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from optstudy.errors import UsageError
from optstudy.posthoc.checkpoints import fit_checkpoint, load_weights, read_weights


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def keep(tmp_path: Path) -> Callable[[bytes], Path]:
    def kept(content: bytes) -> Path:
        (tmp_path / "weights.pt").write_bytes(content)
        return tmp_path / "weights.pt"

    return kept


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{name}": value for name, value in weights.items()}


@pytest.mark.parametrize(
    "wrap",
    [dict, lambda w: {"model": w, "epoch": 3}, lambda w: {"state_dict": w}],
    ids=["alone", "model", "state_dict"],
)
def test_weights_are_read_alone_or_out_of_a_checkpoint(
    wrap: Callable[[Any], Any], keep: Callable[[bytes], Path]
) -> None:
    weights = net().state_dict()

    assert cases.bits(read_weights(keep(saved(wrap(weights))))) == cases.bits(dict(weights))


def nested(levels: int) -> dict[str, Any]:
    """Return weights in dictionaries that are nested that deeply."""
    content: dict[str, Any] = {"b": torch.zeros(1)}
    for _ in range(levels):
        content = {"a": content}
    return content


NO_WEIGHTS = "not a file of weights only; write one by torch.save(model.state_dict(), FILE)"
NO_NAMES = "holds no named weights; write one by torch.save(model.state_dict(), FILE)"
NO_KEYS = NO_NAMES.replace(";", " (its keys are a);")
DIFFERENT = "has shape (2,), where the model has 0.weight of shape (3, 4); it is from a different model"
OTHER_SHAPE = "has shape (2,), but the model's has (3, 4)"
NO_NUMBERS = "a is not a dense tensor of real numbers"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", NO_WEIGHTS),
        (b"hello world" * 20, NO_WEIGHTS),
        (saved(net().state_dict())[:900], NO_WEIGHTS),
        (
            saved(nn.Linear(2, 1)),
            NO_WEIGHTS.replace(";", " (it also holds torch.nn.modules.linear.Linear);"),
        ),
        (pickle.dumps(print), NO_WEIGHTS),
        (pickle.dumps({"a": 1}), NO_WEIGHTS),
        (saved([1, 2]), NO_NAMES),
        (saved({}), NO_NAMES),
        (
            saved({"epoch": 3, "best": {"step": 2}}),
            NO_NAMES.replace(";", " (its keys are epoch, best);"),
        ),
        (saved(torch.zeros(3)), NO_NAMES),
        (saved({"a": torch.eye(3).to_sparse()}), NO_NUMBERS),
        (saved({"a": torch.zeros(3, device="meta")}), NO_NUMBERS),
        (saved({"a": torch.zeros(3, dtype=torch.complex64)}), NO_NUMBERS),
        (saved({"a": torch.zeros(3).to(torch.float8_e4m3fn)}), NO_NUMBERS),
        (saved({"a": torch.zeros(1).expand(10**12)}), NO_NUMBERS),
        (saved({"state": {"a": torch.zeros(1).expand(10**6, 10**6)}}), NO_NUMBERS),
        (saved(nested(100)), NO_KEYS),
        (saved({"a": torch.tensor([1, torch.nan])}), "a holds numbers that are not finite"),
    ],
)
def test_what_holds_no_weights_is_refused_in_one_line(
    content: bytes, said: str, keep: Callable[[bytes], Path]
) -> None:
    path = keep(content)

    with pytest.raises(UsageError) as raised:
        read_weights(path)

    assert str(raised.value) == f"{path}: {said}"


@pytest.mark.parametrize("name", ["absent.pt", "."])
def test_a_file_that_is_not_there_is_wrong_usage(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file; give a file written by torch.save$"):
        read_weights(tmp_path / name)


def test_weights_load_by_name_whatever_their_order() -> None:
    model, wanted = net(), {name: torch.randn(value.shape) for name, value in net().state_dict().items()}

    assert load_weights(model, dict(reversed(wanted.items())), "w.pt") is None
    assert cases.bits(dict(model.state_dict())) == cases.bits(wanted)


def in_lines(*lines: str, sizes: Callable[[int], int] = lambda _: 3) -> dict[str, Tensor]:
    """Return layers by name, told apart by their values."""
    return {name: torch.full((sizes(i), sizes(i)), float(i)) for i, name in enumerate(lines)}


def named(*layers: str) -> nn.Module:
    """Return a model of layers of equal shape; a dot in a name nests it."""
    model = nn.Module()
    for layer in layers:
        parent = model
        *outer, last = layer.split(".")
        for part in outer:
            if not hasattr(parent, part):
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        parent.add_module(last, nn.Linear(3, 3, bias=False))
    return model


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "net.module.",
        "model.net.",
    ],
)
def test_a_prefix_of_all_names_is_taken_away_whatever_the_order_of_equal_shapes(prefix: str) -> None:
    model = named("a", "b", "c")

    notice = load_weights(model, in_lines(*(f"{prefix}{name}.weight" for name in "cab")), "w.pt")

    assert [float(value[0, 0]) for value in model.state_dict().values()] == [1, 2, 0]
    assert (
        notice
        == f"w.pt: different names ({prefix}a.weight for a.weight), but the same after a prefix; loaded by name"
    )


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (("a", "b"), ("b._orig_mod", "a")),  # one layer was compiled
        (("body.a", "body.b"), ("body.module.b", "body.module.a")),  # one part was in DataParallel
        (("net.a", "net.b"), ("b", "a")),  # the model wraps the net whose weights were saved
        (("net.a", "net.b"), ("_orig_mod.model.b", "_orig_mod.model.a")),
        (("module.a", "module.b"), ("module.b", "module.a")),  # a layer's own name
        (("module", "other"), ("module.other", "module.module")),
    ],
)
def test_names_decide_wherever_a_wrapper_was(layers: tuple[str, ...], names: tuple[str, ...]) -> None:
    model = named(*layers)

    load_weights(model, in_lines(*(f"{name}.weight" for name in names)), "w.pt")

    assert [float(value[0, 0]) for value in model.state_dict().values()] == [1, 0]


def test_a_model_saved_from_data_parallel_and_compile_loads_by_name(keep: Callable[[bytes], Path]) -> None:
    model, other = net(), net()
    wanted = cases.bits(dict(other.state_dict()))
    for value in model.state_dict().values():
        value.zero_()

    wrapped: Any = torch.compile(nn.DataParallel(other), backend="eager")
    load_weights(model, read_weights(keep(saved(wrapped.state_dict()))), "w.pt")

    assert cases.bits(dict(model.state_dict())) == wanted


def test_weights_whose_names_say_nothing_load_by_order_with_a_notice() -> None:
    model = named("conv1", "conv2")

    notice = load_weights(model, in_lines("layers.0.weight", "layers.2.weight"), "w.pt")

    assert [float(value[0, 0]) for value in model.state_dict().values()] == [0, 1]
    assert notice == (
        "w.pt: different names (layers.0.weight for conv1.weight), but the same shapes in order; loaded by order"
    )


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (("fc1", "fc2"), ("layers.2", "layers.0")),
        (("fc1", "fc2"), ("lin10", "lin9")),
        (("fc2", "fc1"), ("layers.0", "layers.1")),
        (("enc.fc", "dec.fc"), ("layers.0", "layers.1")),
        (("q", "k", "v"), ("key", "query", "value")),
        (("conv1", "conv2"), ("conv_b", "conv_a")),
        (("conv1", "conv2"), ("conv_a", "conv_b")),
        (("enc", "dec"), ("decoder", "encoder")),
    ],
)
def test_order_decides_nothing_where_names_of_equal_shape_say_anything(
    layers: tuple[str, ...], names: tuple[str, ...]
) -> None:
    ours, theirs = (tuple(f"{name}.weight" for name in group) for group in (layers, names))

    with pytest.raises(UsageError) as raised:
        load_weights(named(*layers), in_lines(*theirs), "w.pt")

    assert str(raised.value) == (
        f"w.pt: {', '.join(theirs)} could be {', '.join(ours)} of the model in any order, since they have the same"
        " shape and other names; rename them as in the model"
    )


@pytest.mark.parametrize(
    ("layers", "names"),
    [
        (("enc.fc", "dec.fc"), ("dec_fc", "enc_fc")),
        (("enc.fc", "dec.fc"), ("dec.linear", "enc.linear")),
        (("k", "q", "v"), ("q_proj", "k_proj", "v_proj")),
        (("blocks.0.fc", "blocks.1.fc"), ("layer.1.linear", "layer.0.linear")),
    ],
)
def test_words_that_tell_the_names_apart_decide(layers: tuple[str, ...], names: tuple[str, ...]) -> None:
    model = named(*layers)

    notice = load_weights(model, in_lines(*(f"{name}.weight" for name in names)), "w.pt")

    assert [float(value[0, 0]) for value in model.state_dict().values()][:2] == [1, 0]
    assert notice is not None
    assert notice.endswith("the same words tell them apart; loaded by name")


def test_where_each_shape_occurs_once_names_need_say_nothing() -> None:
    model = nn.Module()
    model.enc, model.dec = nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False)
    file = {"first.weight": torch.zeros(3, 2), "last.weight": torch.ones(2, 3)}

    notice = load_weights(model, file, "w.pt")

    assert float(model.dec.weight.detach().min()) == 1
    assert notice is not None


def test_a_norms_weight_and_bias_are_never_exchanged() -> None:
    swapped = {"norm.bias": torch.zeros(3), "norm.weight": torch.ones(3), "x.bias": torch.ones(3)}
    model = nn.ModuleDict({"a": nn.LayerNorm(3), "b": nn.LayerNorm(3)})

    with pytest.raises(
        UsageError, match="could be a.weight, a.bias, b.weight, b.bias of the model in any order"
    ):
        load_weights(model, {**swapped, "x.weight": torch.ones(3)}, "w.pt")


def test_names_in_common_leave_nothing_to_the_order() -> None:
    with pytest.raises(UsageError, match="b.weight of shape .* is missing; it is from a different model"):
        load_weights(named("a", "b"), in_lines("c.weight", "a.weight"), "w.pt")


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_count_of_batches_of_a_batch_norm_may_be_absent(prefix: str) -> None:
    model, other = (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)) for _ in range(2))
    other(torch.randn(5, 4))
    file = {prefix + name: value for name, value in other.state_dict().items() if "num_batches" not in name}

    load_weights(model, file, "w.pt")

    assert torch.equal(model.state_dict()["1.running_mean"], other.state_dict()["1.running_mean"])
    assert int(model.state_dict()["1.num_batches_tracked"]) == 0


def test_an_averaged_model_loads_without_its_count() -> None:
    model, other = net(), net()
    averaged = torch.optim.swa_utils.AveragedModel(other)

    load_weights(model, averaged.state_dict(), "w.pt")

    assert cases.bits(dict(model.state_dict())) == cases.bits(dict(other.state_dict()))


def tied() -> nn.Module:
    model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    model["head"].weight = model["embed"].weight
    return model


@pytest.mark.parametrize("names", [("embed.weight", "head.weight"), ("net.embed.weight", "net.head.weight")])
def test_two_values_of_a_tied_parameter_are_refused(names: tuple[str, str]) -> None:
    model = tied()
    before = cases.bits(dict(model.state_dict()))

    with pytest.raises(UsageError) as raised:
        load_weights(model, {name: torch.randn(5, 3) for name in names}, "w.pt")

    assert str(raised.value) == f"w.pt: {names[0]} and {names[1]} differ, but are one parameter of the model"
    assert cases.bits(dict(model.state_dict())) == before
    weight = torch.randn(5, 3)
    load_weights(model, dict.fromkeys(names, weight), "w.pt")
    assert torch.equal(model["embed"].weight, weight)  # type: ignore[index]


def test_one_name_of_a_tied_parameter_is_enough() -> None:
    model, weight = tied(), torch.randn(5, 3)

    load_weights(model, {"embed.weight": weight}, "w.pt")

    assert torch.equal(model.state_dict()["head.weight"], weight)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {"net": w, "acc": 93.1, "epoch": 3},
        lambda w: {"model": w, "optimizer": torch.optim.Adam(net().parameters()).state_dict()},
        lambda w: {"epoch": 1, "state_dict": renamed(w), "hyper_parameters": {"lr": 0.1}, "callbacks": {}},
        lambda w: {"net": w, "args": argparse.Namespace(lr=0.1), "best": np.float64(93.1), "n": np.int64(3)},
        lambda w: {"generator": {"a": torch.zeros(7)}, "discriminator": w},
        lambda w: {"state": {"model": w}, "rng": torch.zeros(4)},
    ],
    ids=["net", "model", "lightning", "plain", "gan", "deeper"],
)
def test_the_only_entry_that_fits_is_opened(
    wrap: Callable[[Any], Any], keep: Callable[[bytes], Path]
) -> None:
    wanted = {name: torch.randn(value.shape) for name, value in net().state_dict().items()}
    model = net()

    load_weights(model, read_weights(keep(saved(wrap(wanted))), model), "w.pt")

    assert cases.bits(dict(model.state_dict())) == cases.bits(wanted)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"net": net().state_dict(), "ema": net().state_dict()},
            "holds several state_dicts (net, ema); save the one to use: torch.save(torch.load(FILE)[KEY], NEW_FILE)",
        ),
        (
            {"g": {"a": torch.zeros(2)}, "d": {"0.weight": torch.zeros(2)}},
            f"holds several state_dicts, but none of the model (g: a {DIFFERENT}; d: 0.weight {OTHER_SHAPE})",
        ),
        (
            {"net": {"0.weight": torch.zeros(2)}, "epoch": 3},
            f"its entry net was opened (its keys are net, epoch): 0.weight {OTHER_SHAPE}",
        ),
    ],
)
def test_a_nested_file_that_does_not_fit_says_which_entries_it_has(
    content: Any, said: str, keep: Callable[[bytes], Path]
) -> None:
    path = keep(saved(content))

    with pytest.raises(UsageError) as raised:
        read_weights(path, net())

    assert str(raised.value) == f"{path}: {said}"


@pytest.mark.parametrize("name", ["model.safetensors", "weights.bin"])
def test_safetensors_are_read_whatever_the_files_name(name: str, tmp_path: Path) -> None:
    weights = net().state_dict()
    save_file(weights, tmp_path / name)  # which orders tensors by name
    model = net()
    for value in model.state_dict().values():
        value.zero_()

    load_weights(model, read_weights(tmp_path / name), name)

    assert cases.bits(dict(model.state_dict())) == cases.bits(dict(weights))


def test_without_the_package_a_safetensors_file_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(net().state_dict(), tmp_path / "w.safetensors")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)

    with pytest.raises(
        UsageError, match=r"a safetensors file; to read it: pip install 'optstudy\[safetensors\]'$"
    ):
        read_weights(tmp_path / "w.safetensors")


def test_a_damaged_safetensors_file_is_refused(keep: Callable[[bytes], Path], tmp_path: Path) -> None:
    save_file(net().state_dict(), tmp_path / "w.safetensors")
    path = keep((tmp_path / "w.safetensors").read_bytes()[:-8])

    with pytest.raises(UsageError, match=NO_WEIGHTS.partition(";")[0]):
        read_weights(path)


def without(name: str) -> dict[str, Tensor]:
    return {key: value for key, value in net().state_dict().items() if key != name}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (without("2.bias"), "2.bias of shape (2,) is missing; it is from a different model"),
        (
            {**net().state_dict(), "extra": torch.zeros(2)},
            "extra is not a parameter of the model; it is from a different model",
        ),
        (
            {**net().state_dict(), "2.bias": torch.zeros(5)},
            "2.bias has shape (5,), but the model's has (2,)",
        ),
        (
            {**net().state_dict(), "0.weight": torch.zeros(4, 3)},
            "0.weight has shape (4, 3), but the model's has (3, 4)",
        ),
        (
            renamed({**net().state_dict(), "2.bias": torch.zeros(5)}),
            "module.2.bias has shape (5,), where the model has 2.bias of shape (2,); it is from a different model",
        ),
        (renamed(without("2.bias")), "2.bias of shape (2,) is missing; it is from a different model"),
        (
            renamed({**net().state_dict(), "extra": torch.zeros(2)}),
            "module.extra is not a parameter of the model; it is from a different model",
        ),
    ],
)
def test_weights_that_do_not_fit_say_which_and_how_and_change_nothing(
    weights: dict[str, Tensor], said: str
) -> None:
    model = net()
    before = cases.bits(dict(model.state_dict()))

    with pytest.raises(UsageError) as raised:
        load_weights(model, weights, "w.pt")

    assert str(raised.value) == f"w.pt: {said}"
    assert cases.bits(dict(model.state_dict())) == before


def test_a_checkpoint_of_a_users_model_comes_back_under_the_models_names(
    keep: Callable[[bytes], Path], tmp_path: Path
) -> None:
    with cases.project(tmp_path):
        from optstudy.workloads.user_code import call

        weights = call("net.py:make").state_dict()
        found, notice = fit_checkpoint(cases.plan(), keep(saved(renamed(weights))))

    assert cases.bits(dict(torch.load(io.BytesIO(found), weights_only=True))) == cases.bits(dict(weights))
    assert notice is not None
