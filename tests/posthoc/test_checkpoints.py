"""A file of weights is read, or refused with what is wrong with it."""

import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cases
import pytest
import torch
from torch import Tensor, nn

from optstudy.errors import OptstudyError, UsageError
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


NO_WEIGHTS = "not a file of weights only; write one by torch.save(model.state_dict(), FILE)"
NO_NAMES = "holds no named weights; write one by torch.save(model.state_dict(), FILE)"
NO_NUMBERS = "a is not a dense tensor of real numbers"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", NO_WEIGHTS),
        (b"hello world" * 20, NO_WEIGHTS),
        (saved(net().state_dict())[:900], NO_WEIGHTS),
        (saved(net()), NO_WEIGHTS),
        (pickle.dumps(print), NO_WEIGHTS),
        (pickle.dumps({"a": 1}), NO_WEIGHTS),
        (saved([1, 2]), NO_NAMES),
        (saved({}), NO_NAMES),
        (saved({"epoch": 3}), NO_NAMES),
        (saved(torch.zeros(3)), NO_NAMES),
        (saved({"a": torch.eye(3).to_sparse()}), NO_NUMBERS),
        (saved({"a": torch.zeros(3, device="meta")}), NO_NUMBERS),
        (saved({"a": torch.zeros(3, dtype=torch.complex64)}), NO_NUMBERS),
    ],
)
def test_what_holds_no_weights_is_refused_in_one_line(
    content: bytes, said: str, keep: Callable[[bytes], Path]
) -> None:
    path = keep(content)

    with pytest.raises(OptstudyError) as raised:
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


def test_weights_with_other_names_load_by_their_shapes_with_a_notice() -> None:
    model, wanted = net(), {name: torch.randn(value.shape) for name, value in net().state_dict().items()}

    notice = load_weights(model, renamed(wanted), "w.pt")

    assert cases.bits(dict(model.state_dict())) == cases.bits(wanted)
    assert notice == (
        "w.pt: different names (module.0.weight for 0.weight), but the same shapes in order; loaded by order"
    )


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
