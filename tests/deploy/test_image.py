"""The image has the packages of the lock, its context holds nothing private, and its checks can fail."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from contents import build_tools, secret_files, secret_words
from docker.utils import exclude_paths
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.lock").read_text()
DOCKERFILE = (ROOT / "Dockerfile").read_text()
# A package of the lock, its version and the lines of its hashes.
PINS = {
    canonicalize_name(name): (version, hashes.count("--hash=sha256:"))
    for name, version, hashes in re.findall(r"^(\S+)==(\S+) \\\n((?: +--hash=.*\n)+)", LOCK, re.MULTILINE)
}
WANTED = [
    *PROJECT["project"]["dependencies"],
    *PROJECT["project"]["optional-dependencies"]["ray"],
    *PROJECT["project"]["optional-dependencies"]["server"],
    *PROJECT["build-system"]["requires"],
]
PRIVATE = (
    ".env",
    ".git/config",
    "mlruns/mlflow.db",
    "notes.txt",
    "optstudy/.netrc",
    "optstudy/__pycache__/study.pyc",
    "optstudy/cli/.env",
    "secrets/pgpass",
    "tuning/best/quick/sgd.json",
    "tuning/studies/quick/lock",
    "workspace/mlruns/mlflow.db",
)


def ended(*command: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile, each as its word and the rest."""
    joined = re.sub(r"\\\n(\s*#.*\n)*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.partition(" ")
        yield word, rest.strip()


INSTRUCTIONS = list(instructions(DOCKERFILE))
LAST_STAGE = INSTRUCTIONS[max(i for i, (word, _) in enumerate(INSTRUCTIONS) if word == "FROM") :]


def test_hadolint_has_nothing_to_say() -> None:
    done = ended(
        str(Path(sys.executable).with_name("hadolint")), "--failure-threshold", "style", "Dockerfile"
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_no_rule_of_hadolint_is_off_without_a_reason() -> None:
    ignored = [line for line in DOCKERFILE.splitlines() if "hadolint ignore" in line]

    assert all(re.fullmatch(r"# hadolint ignore=DL\d+  # \w.*", line) for line in ignored)
    assert not [*ROOT.glob(".hadolint*")]


@pytest.mark.parametrize("wanted", WANTED)
def test_the_lock_pins_a_version_that_the_project_allows(wanted: str) -> None:
    requirement = Requirement(wanted)

    version, _ = PINS[canonicalize_name(requirement.name)]

    assert requirement.specifier.contains(version)


def test_each_package_of_the_lock_has_a_hash_and_there_is_nothing_else() -> None:
    lines = [
        line for line in LOCK.splitlines() if line and not line.lstrip().startswith(("#", "--hash=sha256:"))
    ]

    assert {canonicalize_name(line.partition("==")[0]) for line in lines} == PINS.keys()
    assert len(lines) == len(PINS)
    assert all(hashes for _, hashes in PINS.values())


def test_the_lock_names_no_place_and_says_how_it_is_renewed() -> None:
    assert not re.search(r"://|index-url|find-links|trusted-host|(^|\\s)file:", LOCK)
    assert "make lock" in LOCK.partition("==")[0]
    assert "Python 3.11" in LOCK.partition("==")[0]


def test_each_stage_starts_from_the_base_that_an_argument_names() -> None:
    stages = [rest.split() for word, rest in INSTRUCTIONS if word == "FROM"]
    names = {stage[2] for stage in stages if len(stage) > 2}

    assert INSTRUCTIONS[0] == ("ARG", "BASE=python:3.11-slim-bookworm")
    assert {stage[0] for stage in stages} <= {"${BASE}", *names}


def test_packages_come_from_the_lock_alone() -> None:
    installs = [rest for word, rest in INSTRUCTIONS if word == "RUN" and "pip install" in rest]

    assert ["--require-hashes" in rest or "--no-index --no-deps" in rest for rest in installs] == [True, True]
    assert "<<" not in DOCKERFILE  # Debian's buildah reads neither this
    assert "--link" not in DOCKERFILE  # nor this


def test_the_last_stage_is_a_users_command() -> None:
    said = dict(LAST_STAGE)

    assert said["ENTRYPOINT"] == '["optstudy"]'
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", said["USER"])


def test_the_version_on_the_label_is_the_projects() -> None:
    assert ("ARG", f"VERSION={PROJECT['project']['version']}") in LAST_STAGE


def test_what_changes_with_each_commit_comes_last() -> None:
    words = [word for word, _ in LAST_STAGE]
    commit = LAST_STAGE.index(("ARG", "COMMIT=unknown"))

    assert not {"RUN", "COPY"} & {*words[commit:]}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an engine gets of a project in which studies ran and secrets lie."""
    project, sent = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("context")
    for name in ("optstudy", "tuning", "docs", "tests"):
        shutil.copytree(ROOT / name, project / name, symlinks=True)
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.lock", ".dockerignore", "Makefile"):
        shutil.copy(ROOT / name, project)
    for name in PRIVATE:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("of nobody else's business")
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    for name in sorted(exclude_paths(str(project), rules)):
        if (project / name).is_dir() and not (project / name).is_symlink():
            (sent / name).mkdir(parents=True, exist_ok=True)
        else:
            (sent / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(project / name, sent / name, follow_symlinks=False)
    return sent


def test_nothing_private_reaches_the_engine(context: Path) -> None:
    own = {"Dockerfile", ".dockerignore"}  # an engine takes these by itself
    sent = {str(path.relative_to(context)) for path in context.rglob("*") if path.is_file()} - own
    outside = {
        name for name in sent if not name.startswith(("optstudy/", "tuning/presets/", "tuning/spaces/"))
    }

    assert not sent & {*PRIVATE}
    assert not [name for name in sent if re.search(r"(^|/)(\.|__pycache__)", name)]
    # An engine takes these two by itself.
    assert outside - {"Dockerfile", ".dockerignore"} == {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "requirements.lock",
    }


def test_the_wheel_of_the_image_is_the_projects(context: Path, tmp_path: Path) -> None:
    contents = []
    for source in (context, ROOT):
        wheels = tmp_path / source.name
        done = ended(
            *(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(wheels)),
            folder=source,
        )
        assert done.returncode == 0, done.stderr
        (wheel,) = wheels.glob("*.whl")
        contents.append({entry.filename: entry.CRC for entry in zipfile.ZipFile(wheel).infolist()})

    assert contents[0] == contents[1]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project of one commit."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "image.sh", tmp_path / "deploy")
    for line in ("init -q", "add .", "-c user.name=A -c user.email=a@b commit -qm A"):
        assert ended("git", *shlex.split(line), folder=tmp_path).returncode == 0
    return tmp_path


def build(checkout: Path, *arguments: str) -> list[str]:
    """The words that an engine gets, were it called echo."""
    done = ended("sh", str(checkout / "deploy" / "image.sh"), *arguments, ENGINE="echo")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_image_is_told_its_commit(checkout: Path) -> None:
    commit = ended("git", "rev-parse", "HEAD", folder=checkout).stdout.strip()

    words = build(checkout, "--build-arg", "COMPILE=1")

    wanted = f"build --build-arg COMMIT={commit} --tag optstudy --build-arg COMPILE=1 ."
    assert words == wanted.split()


def test_the_image_of_a_changed_tree_says_so(checkout: Path) -> None:
    (checkout / "new.py").touch()

    words = build(checkout)

    assert re.fullmatch(r"COMMIT=[0-9a-f]{40}-dirty", words[2])


def path_with(folder: Path, programs: Sequence[str]) -> str:
    """A PATH that leads to a few programs only."""
    for name in programs:
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    return str(folder)


def test_without_an_engine_one_line_says_what_to_install(tmp_path: Path) -> None:
    path = path_with(tmp_path, ["sh", "dirname", "git"])

    done = ended("sh", str(ROOT / "deploy" / "image.sh"), PATH=path, ENGINE="")

    wanted = "no container engine answers here; start docker, or install podman or buildah\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", wanted)


def test_the_check_of_the_image_says_what_it_lacks(tmp_path: Path) -> None:
    done = ended(sys.executable, str(ROOT / "deploy" / "image_check.py"), PATH=str(tmp_path))

    wanted = "image-check cannot run: buildah and mmdebstrap not found: on Debian, apt-get install buildah mmdebstrap\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", wanted)


@pytest.mark.parametrize(
    "line",
    [
        "PGPASSWORD=abc",
        "RUN pip install --index-url https://me:word@packages.test/simple x",
        "api_key: 12",
        "TOKEN=a",
    ],
)
def test_a_secret_in_the_environment_or_the_history_is_found(line: str) -> None:
    assert secret_words(["PATH=/usr/bin", line, "DO_NOT_TRACK=1"]) == [line]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("root/.netrc", "machine a login b password c"),
        ("etc/pip.conf", "[global]"),
        ("opt/optstudy/id_ed25519", "key"),
        ("srv/any.txt", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        ("opt/optstudy/requirements.lock", "--index-url https://packages.test/simple"),
        (
            "opt/optstudy/lib/python3.11/site-packages/optstudy-1.dist-info/direct_url.json",
            "https://me:word@packages.test",
        ),
        ("opt/optstudy/lib/python3.11/site-packages/optstudy/deep/a.py", "TOKEN = 'ghp_0123456789abcdef'"),
    ],
)
def test_a_secret_in_any_layer_is_found(name: str, text: str, tmp_path: Path) -> None:
    for layer in ("upper", "lower"):
        (tmp_path / layer / "etc").mkdir(parents=True)
        (tmp_path / layer / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/bash")
    planted = tmp_path / "lower" / name
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(text)

    assert secret_files([tmp_path / "upper", tmp_path / "lower"]) == [f"/{name}"]


def test_what_a_mount_leaves_behind_and_what_a_library_ships_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").touch()
    shipped = tmp_path / "opt" / "lib" / "python3.11" / "site-packages" / "mlflow" / "server" / "auth"
    shipped.mkdir(parents=True)
    (shipped / "basic_auth.ini").write_text("admin_password = password1234")

    assert secret_files([tmp_path]) == []


@pytest.mark.parametrize(
    "name", ["gcc", "gcc-12", "x86_64-linux-gnu-ld", "make", "git", "c++", "ld.gold", "as"]
)
def test_a_program_that_builds_is_found(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "usr" / "bin"
    folder.mkdir(parents=True)
    for each in (name, "python3.11", "mlflow", "cat", "asn1", "makeconv", "ldconfig", "ld.so"):
        (folder / each).touch()

    assert build_tools([tmp_path]) == [f"/usr/bin/{name}"]


def test_a_service_that_knows_no_vulnerability_is_not_believed() -> None:
    done = ended("sh", "deploy/audit.sh", "echo", "No known vulnerabilities found")

    assert done.returncode == 1
    assert done.stderr.startswith("audit: no vulnerability service answers here;")


def test_a_service_that_knows_one_is_asked_strictly_about_the_lock() -> None:
    done = ended("sh", "deploy/audit.sh", "echo", "jinja2 2.10 PYSEC-2019-217")

    assert done.returncode == 0
    assert "--strict" in done.stdout
    assert done.stdout.endswith("--requirement requirements.lock\n")
