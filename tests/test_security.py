"""Nothing that comes from outside is unpickled, evaluated or given to a shell."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import optstudy

PACKAGE = Path(optstudy.__file__).parent
DEPLOY = PACKAGE.parent / "deploy"

# Messages between a driver and the workers that it started, over a pipe or a Ray cluster with a token.
OWN_MESSAGES = {
    "execution/local.py: pickle.loads(message)",
    "execution/local.py: connection.recv()",
    "execution/ray/workers.py: pickle.loads(result)",
}
# Code that the user names, in a workspace or behind --trust; and commands of our own, by name.
OWN_IMPORTS = {
    "workloads/user_code.py: importlib.import_module(dotted)",
    "workloads/user_code.py: importlib.import_module(where)",
    "cli/main.py: importlib.import_module(f'optstudy.cli.{cmd_name}')",
    "cli/retry.py: importlib.import_module(f'optstudy.cli.{words[0]}')",
}

UNPICKLERS = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "jsonpickle")
RUNNERS = {"eval", "exec", "__import__", "os.system", "os.popen", "importlib.import_module", "runpy.run_path"}
LOADERS = ("load_model", "read_pickle", "unsafe_load", "full_load", "recv", "Unpickler", "mktemp")
REQUIRED = {  # argument that makes a loader safe
    "torch.load": "weights_only=True",
    "np.load": "allow_pickle=False",
    "numpy.load": "allow_pickle=False",
    "yaml.load": "Loader=yaml.SafeLoader",
}


def unsafe_calls(source: str) -> Iterator[str]:
    """Yield the calls of a program that may run what they read."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called, keywords = ast.unparse(node.func), {ast.unparse(keyword) for keyword in node.keywords}
        module, _, name = called.rpartition(".")
        if called in REQUIRED:
            unsafe = REQUIRED[called] not in keywords
        elif module in UNPICKLERS:
            unsafe = not name.startswith("dump")
        else:
            unsafe = called in RUNNERS or name in LOADERS or "shell=True" in keywords
        if unsafe:
            yield ast.unparse(node)


def test_the_package_unpickles_only_its_own_messages_and_imports_only_what_the_user_names() -> None:
    found = {
        f"{file.relative_to(PACKAGE).as_posix()}: {call}"
        for file in PACKAGE.rglob("*.py")
        for call in unsafe_calls(file.read_text())
    }

    assert found == OWN_MESSAGES | OWN_IMPORTS


def test_the_programs_of_deployment_run_nothing_that_they_read() -> None:
    assert [call for file in DEPLOY.rglob("*.py") for call in unsafe_calls(file.read_text())] == []


@pytest.mark.parametrize(
    "call",
    [
        *(
            "torch.load(file)",
            "torch.load(file, weights_only=False)",
            "np.load(file)",
            "np.load(f, allow_pickle=True)",
        ),
        *(
            "pickle.load(file)",
            "pickle.loads(data)",
            "dill.loads(data)",
            "marshal.loads(data)",
            "shelve.open(name)",
        ),
        *(
            "yaml.load(text)",
            "yaml.unsafe_load(text)",
            "pandas.read_pickle(file)",
            "mlflow.pytorch.load_model(uri)",
        ),
        *(
            "eval(text)",
            "exec(text)",
            "os.system(line)",
            "subprocess.run(line, shell=True)",
            "__import__(name)",
        ),
    ],
)
def test_a_new_unsafe_call_is_found(call: str) -> None:
    assert list(unsafe_calls(f"def read(file):\n    return {call}\n")) == [call]


@pytest.mark.parametrize(
    "call",
    [
        "torch.load(file, weights_only=True)",
        "np.load(file, allow_pickle=False)",
        "pickle.dumps(x)",
        "json.loads(x)",
    ],
)
def test_a_safe_call_is_not(call: str) -> None:
    assert list(unsafe_calls(call)) == []
