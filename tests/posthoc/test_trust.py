"""Code that a record from elsewhere names is refused, or listed before it is imported, and called if of its kind."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import evidence as made_up
import pytest
import tiny
from torch import nn

from optstudy.errors import UsageError
from optstudy.execution.pool import WorkerPool
from optstudy.optimizers import load_space, packaged_optimizers
from optstudy.posthoc.curvature import measure_request
from optstudy.posthoc.reproduce.recorded import recorded_in_mlflow
from optstudy.posthoc.request import CurvatureRequest
from optstudy.posthoc.trust import (
    ForeignCode,
    Listing,
    check_kinds,
    check_trust,
    code_in_mlflow,
    foreign_code,
)
from optstudy.records.location import Location
from optstudy.records.plan import Method, Plan, Split
from optstudy.records.provenance import Provenance
from optstudy.study.events import Notice
from optstudy.study.workspace import StudyFiles, read_recorded, write_recorded
from optstudy.tracking import embedded, open_existing
from optstudy.workloads.dataset import Dataset
from optstudy.workloads.datasets import load
from optstudy.workloads.models import build_model

RUN = "tiny/sgd/seed-0"
EVIL = "open('imported', 'w')\n\n\ndef make(*_, **__):\n    open('called', 'w')\n"
FOREIGN = [
    "http.server:test",
    "os:system",
    "subprocess.Popen",
    "builtins:exec",
    "torch.hub:load",
    "code.interact",
]


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers take seconds to start."""
    monkeypatch.setattr(WorkerPool, "workers", lambda *_, **__: tiny.InProcessWorkers())


BUILT_IN = {"dataset": "mnist", "model": "lenet5", "loss": "cross_entropy", "optimizer": "torch.optim.SGD"}


def code_of(changes: Mapping[str, str], sources: Mapping[str, str] | None = None) -> ForeignCode:
    """The code that the record of a run from elsewhere names."""
    names = {**BUILT_IN, **changes}
    plan = Plan(
        names["dataset"],
        Split("final"),
        names["model"],
        names["loss"],
        Method(names["optimizer"], {}),
        epochs=1,
        sweep_epochs=(),
        batch_size=10,
        seed=0,
    )
    [found] = made_up.runs_of(("sgd",), 1, study="tiny")
    return foreign_code(replace(found.run, provenance=Provenance(sources=sources)), plan)


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def elsewhere(workspace: Path) -> str:
    """The address of the workspace's database, as that of a server."""
    return embedded.uri(workspace)


@pytest.mark.parametrize("optimizer", sorted(packaged_optimizers()))
def test_built_in_names_and_packaged_optimizers_need_no_trust(optimizer: str) -> None:
    code = code_of({"optimizer": optimizer})

    assert code.references == {}
    assert check_trust([code], trust=False) == Listing()


@pytest.mark.parametrize("kind", BUILT_IN)
@pytest.mark.parametrize(
    "reference",
    [*FOREIGN, "evil.py:make", "/abs/evil.py:make", "../../evil.py:make", "evil:make", "torch.optim.Adamax"],
)
def test_anything_else_is_refused_by_name_and_not_imported(
    kind: str, reference: str, user_files: Path
) -> None:
    (user_files / "evil.py").write_text(EVIL)

    with pytest.raises(UsageError) as raised:
        check_trust([code_of({}), code_of({kind: reference})], trust=False)

    assert str(raised.value) == (
        f"{RUN} is a record from elsewhere, and names code of its own: {kind} {reference!r};"
        " read that code, and give --trust to import and run it"
    )
    assert not (user_files / "imported").exists()


def test_an_optimizer_of_a_space_of_the_workspace_needs_trust(user_files: Path) -> None:
    assert load_space("unreliable", user_files).optimizer == "unreliable.py:Unreliable"
    assert code_of({"optimizer": "unreliable.py:Unreliable"}).references == {
        "optimizer": "unreliable.py:Unreliable"
    }


def test_the_files_behind_the_code_are_listed_with_both_hashes_before_anything_is_imported(
    user_files: Path,
) -> None:
    before = {name: digest_of(user_files / name) for name in ("images.py", "net.py")} | {
        "gone.py": "\x1b[31m"
    }
    (user_files / "evil.py").write_text(EVIL)
    with (user_files / "images.py").open("a") as file:
        file.write("import evil\n")
    names = {"dataset": "images.py:load", "model": "net.py:make", "loss": "torch.nn.functional:mse_loss"}
    code = code_of(names, before)

    listing = check_trust([code, code], trust=True)
    changed = digest_of(user_files / "images.py")

    assert [*listing.lines] == [
        "imports dataset 'images.py:load'",
        "imports model 'net.py:make'",
        "imports loss 'torch.nn.functional:mse_loss', of an installed package",
        f"'evil.py' is not in the record; here it has SHA-256 {digest_of(user_files / 'evil.py')}",
        f"'images.py' differs: recorded with SHA-256 {before['images.py']}, here {changed}",
        f"'net.py' is as recorded, with SHA-256 {before['net.py']}",
        "'gone.py' is in the record, but not imported here",
    ]
    assert not (user_files / "imported").exists()


@pytest.mark.parametrize("file", ["evil.pyc", "evil.so", "evil/__init__.pyc", "evil/make.pyc"])
def test_code_that_is_neither_installed_nor_has_a_source_file_is_refused(file: str, user_files: Path) -> None:
    (user_files / file).parent.mkdir(exist_ok=True)
    (user_files / file).touch()

    with pytest.raises(
        UsageError, match=r"^'evil:make' has no source file in \., and is not of an installed"
    ):
        check_trust([code_of({"model": "evil:make"})], trust=True)


@pytest.mark.parametrize(
    ("reference", "origin"),
    [
        ("code:interact", "of the standard library"),
        ("builtins:exec", "of the standard library"),
        ("torch.hub:load", "of an installed package"),
        ("optstudy.cli:main", "of an installed package"),
    ],
)
def test_what_has_no_file_beside_the_record_is_listed_with_its_origin(
    reference: str, origin: str, user_files: Path
) -> None:
    listing = check_trust([code_of({"model": reference})], trust=True)

    assert listing.lines == (f"imports model {reference!r}, {origin}",)


def test_a_module_of_an_editable_installation_is_listed_with_its_folder(
    user_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (user_files / "elsewhere").mkdir()
    file = user_files / "elsewhere" / "editable_zoo.py"
    file.write_text(EVIL)

    class Editable:
        """A finder as setuptools installs it."""

        @staticmethod
        def find_spec(name: str, *_: object) -> ModuleSpec | None:
            return spec_from_file_location(name, file) if name == "editable_zoo" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Editable])

    listing = check_trust([code_of({"model": "editable_zoo:make"})], trust=True)

    assert listing.lines == (
        "imports model 'editable_zoo:make', found in elsewhere, whose files are not listed",
    )


@pytest.mark.parametrize("reference", ["nowhere:make", "nowhere.inside:make"])
def test_a_module_that_is_not_there_is_refused_before_anything_is_listed(
    reference: str, user_files: Path
) -> None:
    with pytest.raises(
        UsageError, match=f"^'{reference}': there is no module '.*'; install it, or put its file in"
    ):
        check_trust([code_of({"model": reference})], trust=True)


def test_a_folder_named_site_packages_beside_the_files_is_not_installed(user_files: Path) -> None:
    folder = user_files / "site-packages"
    folder.mkdir()
    (folder / "evil.py").write_text("import helper\n")
    (folder / "helper.py").write_text(EVIL)

    listing = check_trust([code_of({"model": "site-packages/evil.py:make"})], trust=True)

    assert listing.files is not None
    assert [*listing.files] == ["site-packages/evil.py", "site-packages/helper.py"]


@pytest.mark.parametrize("reference", FOREIGN)
@pytest.mark.parametrize("kind", ["dataset", "model", "loss", "optimizer"])
def test_a_function_of_an_installed_package_is_never_called(kind: str, reference: str) -> None:
    with pytest.raises(
        UsageError, match=r"is not called; it must be|give a subclass of torch\.optim\.Optimizer"
    ):
        check_kinds({kind: reference})


@pytest.mark.parametrize("kind", ["dataset", "model", "loss", "optimizer"])
@pytest.mark.parametrize("name", ["system", "bound", "text", "opened"])
def test_a_function_that_a_file_only_passes_on_is_not_called_either(
    kind: str, name: str, user_files: Path
) -> None:
    (user_files / "passes.py").write_text(
        "from functools import partial\nfrom os import system\n\n"
        "bound = partial(system, 'touch called')\ntext = 'touch called'\nopened = open\n"
    )

    with pytest.raises(UsageError, match="is not called|give a subclass"):
        check_kinds({kind: f"passes.py:{name}"})
    assert not (user_files / "called").exists()


@pytest.mark.parametrize(
    ("kind", "reference"),
    [
        ("dataset", "mine.py:load"),
        ("dataset", "mine.py:cached"),
        ("model", "mine.py:make"),
        ("model", "mine.py:Net"),
        ("model", "mine.py:small"),
        ("model", "torch.nn.Identity"),
        ("loss", "mine.py:loss"),
        ("loss", "mine.py:smoothed"),
        ("loss", "mine.py:module"),
        ("loss", "torch.nn.functional:mse_loss"),
        ("optimizer", "mine.py:optimizer"),
        ("optimizer", "mine.py:nesterov"),
        ("optimizer", "torch.optim.Adamax"),
        ("optimizer", "unreliable.py:Unreliable"),
    ],
)
def test_classes_of_their_kind_and_functions_of_the_users_files_pass(
    kind: str, reference: str, user_files: Path
) -> None:
    (user_files / "mine.py").write_text(
        "import functools, torch\nfrom torch import nn\nfrom images import load\nfrom net import make\n\n"
        "cached = functools.cache(load)\n\n"
        "class Net(nn.Linear):\n    pass\n\n"
        "small = functools.partial(Net, 2, 3)\nmodule = nn.CrossEntropyLoss()\n"
        "smoothed = functools.partial(nn.functional.cross_entropy, label_smoothing=0.1)\n\n"
        "def loss(outputs, targets):\n    return outputs.sum()\n\n"
        "def optimizer(parameters, **arguments):\n    return torch.optim.SGD(parameters, **arguments)\n\n"
        "nesterov = functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True)\n"
    )

    check_kinds({kind: reference})


def test_a_study_of_ones_own_may_take_a_model_of_an_installed_package(
    user_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = user_files / "site-packages"
    installed.mkdir()
    (installed / "zoo.py").write_text("from torch import nn\n\n\ndef net():\n    return nn.Linear(2, 3)\n")
    monkeypatch.syspath_prepend(installed)

    data: Dataset = load("images.py:load")
    assert isinstance(build_model("zoo:net", data), nn.Linear)
    with pytest.raises(
        UsageError, match="model 'zoo:net', which a record from elsewhere names, is not called"
    ):
        check_kinds({"model": "zoo:net"})


def test_a_run_on_a_server_needs_trust_unless_a_study_of_the_workspace_began_with_its_code(
    finished_copy: Path, tmp_path: Path
) -> None:
    tracking = open_existing(Location(tmp_path, elsewhere(finished_copy)))

    [stranger] = recorded_in_mlflow(tracking, RUN, tmp_path / "empty")
    [own] = recorded_in_mlflow(tracking, RUN, finished_copy)

    assert stranger.code.references == {"dataset": "images.py:load", "model": "net.py:make"}
    assert own.code.references == {}
    with pytest.raises(UsageError, match=f"^{RUN} is a record from elsewhere"):
        check_trust([stranger.code], trust=False)


def test_a_run_on_a_server_with_other_code_than_the_study_of_its_name_needs_trust(
    finished_copy: Path, tmp_path: Path
) -> None:
    begun = read_recorded(StudyFiles(finished_copy, "tiny"))
    assert begun is not None
    sources = {**begun.fingerprint["sources"], "other.py:make": {}}
    del sources["net.py:make"]
    other = replace(begun, fingerprint={**begun.fingerprint, "sources": sources})
    write_recorded(StudyFiles(tmp_path, "tiny"), other)
    tracking = open_existing(Location(tmp_path, elsewhere(finished_copy)))

    [run] = recorded_in_mlflow(tracking, RUN, tmp_path)

    assert run.code.references["model"] == "net.py:make"


def test_a_run_on_a_server_with_the_studys_code_as_another_kind_needs_trust(
    finished_copy: Path, tmp_path: Path
) -> None:
    tracking = open_existing(Location(tmp_path, elsewhere(finished_copy)))
    [own] = recorded_in_mlflow(tracking, RUN, finished_copy)
    [found] = made_up.runs_of(("sgd",), 1, study="tiny")

    for changed in (
        replace(own.plan, method=Method("net.py:make", {"lr": 0.1})),
        replace(own.plan, model="images.py:load"),
        replace(own.plan, loss="net.py:make"),
    ):
        assert code_in_mlflow(tracking, found.run, changed, finished_copy).references
    code = code_in_mlflow(tracking, found.run, own.plan, finished_copy)
    assert (code.references, code.known) == ({}, {"dataset": "images.py:load", "model": "net.py:make"})


def test_with_code_from_elsewhere_the_files_of_known_code_may_be_imported_too(user_files: Path) -> None:
    known = replace(code_of({}), known={"model": "net.py:make"})

    assert check_trust([known], trust=False) == Listing()
    files = check_trust([known, code_of({"dataset": "images.py:load"})], trust=True).files

    assert files == {name: digest_of(user_files / name) for name in ("images.py", "net.py")}


def test_the_kinds_of_ones_own_code_are_not_checked(
    finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optstudy.posthoc.curvature.check_kinds", pytest.fail)

    assert next(measure_request(CurvatureRequest(RUN, samples=5), Location(finished_copy), WorkerPool())) == [
        5
    ]


def test_curvature_of_a_run_on_a_server_lists_code_before_it_is_imported(
    finished_copy: Path, tmp_path: Path
) -> None:
    location = Location(tmp_path / "empty", elsewhere(finished_copy))

    with pytest.raises(UsageError, match=rf"^{RUN} is a record from elsewhere, .* give --trust"):
        next(measure_request(CurvatureRequest(RUN), location, WorkerPool()))
    events = list(measure_request(CurvatureRequest(RUN, trust=True, samples=5), location, WorkerPool()))

    assert events[:2] == [Notice("imports dataset 'images.py:load'"), Notice("imports model 'net.py:make'")]
