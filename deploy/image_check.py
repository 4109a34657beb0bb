"""Builds the image from the Dockerfile on a base made here, and looks into it, a line for each promise.

    make image-check
    make image-check ARGS="--compile"

Needs root on Debian or one of its kind, the packages buildah and mmdebstrap, and 40 GB in TMPDIR (else /tmp). Packages
come from where pip finds them; a certificate or pip.conf of this machine that it takes is mounted by --volume.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildah import BASE_PACKAGES, ROOT, Buildah, Ended, storage
from contents import build_tools, secret_files, secret_words

Check = tuple[str, list[str]]  # a promise, and what breaks it

SPACE = 40  # GB; the layers, and each once more while it is committed
OWNER = 4711  # has no line in the image's /etc/passwd
OPEN = ("/home/optstudy", "/tmp", "/var/tmp", "/run/lock")  # noqa: S108  # looked at, not used
ENVIRONMENT = {
    "DO_NOT_TRACK=1",
    "HOME=/home/optstudy",
    "MLFLOW_DISABLE_TELEMETRY=true",
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    "NVIDIA_VISIBLE_DEVICES=all",
    "PYTHONUNBUFFERED=1",
    "RAY_USAGE_STATS_ENABLED=0",
}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

# Programs for the Python inside.
DISTRIBUTIONS = """
import importlib.metadata, re
for found in importlib.metadata.distributions():
    print(re.sub("[-_.]+", "-", found.name).lower() + "==" + found.version)
"""
RECORDED = """
import json
from optstudy.execution.environment import gather_provenance
print(json.dumps(gather_provenance().environment))
"""
CUDA = "import torch; print(torch.version.cuda)"
SERVER = "import getpass, psycopg2, mlflow.server.auth; print('user', getpass.getuser())"
COMPILED = "import torch; print(torch.compile(lambda x: (2 * x + 1).sum())(torch.ones(64)).item())"


@dataclass(frozen=True)
class Container:
    """The image in use by a person whom it does not know, in a folder of theirs."""

    buildah: Buildah
    name: str
    folder: Path

    def run(self, *words: str) -> Ended:
        """Run a command as that person, in that folder."""
        volume = f"{self.folder}:{self.folder}"
        return self.buildah.run(self.name, *words, user=f"{OWNER}:{OWNER}", volumes=[volume])

    def python(self, program: str) -> str:
        """Return what a Python program prints."""
        return self.run("python", "-c", program).out.strip()


def configured(image: dict[str, Any]) -> Iterator[Check]:
    """Look at what the image says of itself."""
    config = image["config"]
    labels = config["Labels"]
    commit = labels["org.opencontainers.image.revision"]
    yield same("the entrypoint is optstudy", config["Entrypoint"], ["optstudy"])
    yield same("the user is a number, and not root", config["User"], "10001:10001")
    yield same(f"a label says version {VERSION}", labels["org.opencontainers.image.version"], VERSION)
    known = re.fullmatch("[0-9a-f]{40}(-dirty)?", commit)
    yield f"a label says commit {commit}", [] if known else ["that is none"]
    missing = {*ENVIRONMENT, f"OPTSTUDY_COMMIT={commit}"} - {*config["Env"]}
    yield "the environment has no telemetry, the GPU and the commit", sorted(missing)
    history = [step.get("created_by", "") for step in image["history"]]
    lines = [*config["Env"], *history, *map(str, labels.values())]
    yield "environment, labels and history tell no secret", secret_words(lines)


def filled(container: Container) -> Iterator[Check]:
    """Look at the packages inside."""
    pins = set(re.findall(r"^\S+==\S+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    found = {line for line in container.python(DISTRIBUTIONS).splitlines() if not line.startswith("pip==")}
    differ = found ^ (pins | {f"optstudy=={VERSION}"})
    yield f"it has optstudy, the {len(pins)} packages of the lock, and pip", sorted(differ)
    cuda = container.python(CUDA)
    yield f"torch is built for CUDA {cuda}; no GPU was used here", ["for none"] * (cuda == "None")
    yield same(
        "it can serve MLflow, with a name for the user",
        container.python(SERVER).split()[-2:],
        ["user", "optstudy"],
    )


def used(container: Container, commit: str) -> Iterator[Check]:
    """Run a study and look at what it leaves."""
    yield same(
        "--version prints the version",
        container.run("optstudy", "--version").out,
        f"optstudy, version {VERSION}\n",
    )
    told = container.run("optstudy", "--help").out
    yield (
        "--help lists the commands",
        [name for name in ("study", "compare", "ui") if f"\n  {name}" not in told],
    )
    yield from smoke(container, "the wheel")
    recorded = json.loads(container.python(RECORDED))
    yield same("runs record the commit", recorded.get("optstudy_commit"), commit)
    yield "runs record the lock", [] if recorded.get("lock") else [f"they record {recorded}"]
    paths = [*container.folder.rglob("*")]
    strange = [str(path) for path in paths if (path.stat().st_uid, path.stat().st_gid) != (OWNER, OWNER)]
    yield f"the {len(paths)} paths in the mounted folder belong to that user", strange
    find = "find / -xdev '(' -type d -o -type f ')' -writable 2>/dev/null; true"
    writable = [Path(line) for line in container.run("sh", "-c", find).out.splitlines()]
    meant = [container.folder, *map(Path, OPEN)]
    yield "HOME is writable", [] if Path(OPEN[0]) in writable else [f"only {writable}"]
    other = [str(path) for path in writable if not any(path.is_relative_to(place) for place in meant)]
    yield "nothing else is, but the mounted folder and the temporary ones", other


def smoke(container: Container, what: str) -> Iterator[Check]:
    """Run a small study."""
    started = time.monotonic()
    ended = container.run(
        "optstudy", "study", "--preset", "smoke", "--study", what.rpartition(" ")[2], "--json"
    )
    rows = [(row["optimizer"], row["seeds"]) for row in json.loads(ended.out)["rows"]]
    seconds = time.monotonic() - started
    yield same(
        f"a smoke study of {what} ran as uid {OWNER}, in {seconds:.0f} s",
        rows,
        [("sgd", 2), ("adahessian", 2)],
    )
    yield (
        f"no library warned during that of {what}",
        [line for line in ended.err.splitlines() if "WARN" in line.upper()],
    )


def from_sdist(container: Container) -> Iterator[Check]:
    """Build the sdist, put it in the wheel's place without a network, and run it."""
    script = (
        "hatchling build --target sdist --directory /var/tmp/dist >/dev/null"
        " && pip uninstall --quiet --yes optstudy"
        " && pip install --quiet --no-cache-dir --no-index --no-deps --no-build-isolation /var/tmp/dist/*.tar.gz"
    )
    container.buildah.run(container.name, "sh", "-c", script, user="0:0", volumes=[f"{ROOT}:/source:ro"])
    yield from smoke(container, "the sdist")


def same(promise: str, found: object, wanted: object) -> Check:
    """Promise that something is what it should be."""
    return promise, [] if found == wanted else [f"it is {found!r}, not {wanted!r}"]


@contextmanager
def person(buildah: Buildah, image: str) -> Iterator[Container]:
    """Yield a container with a folder of somebody else's mounted."""
    with tempfile.TemporaryDirectory(prefix="optstudy-study-") as name:
        os.chown(name, OWNER, OWNER)
        container = buildah("from", image)
        yield Container(buildah, container, Path(name))
        buildah("rm", container)


def look(buildah: Buildah, volumes: list[str]) -> Iterator[Check]:
    """Build the image, and look at all of it."""
    started = time.monotonic()
    buildah.build(volumes)
    minutes = (time.monotonic() - started) / 60
    yield f"the image was built in {minutes:.1f} minutes, and has {buildah.size('optstudy')}", []
    image = buildah.image("optstudy")
    yield from configured(image)
    layers = buildah.layers("optstudy")
    yield f"no file of its {len(layers)} layers is a secret", secret_files(layers)
    yield "none is a compiler, linker, make or git", build_tools(layers)
    with person(buildah, "optstudy") as container:
        yield same(
            "the user of the image is 10001", buildah.run(container.name, "id", "-u").out.strip(), "10001"
        )
        yield from filled(container)
        yield from used(container, image["config"]["Labels"]["org.opencontainers.image.revision"])
        yield from from_sdist(container)


def look_at_compiler(buildah: Buildah, volumes: list[str]) -> Iterator[Check]:
    """Build the image with a compiler, and use it."""
    buildah.build(volumes, "--build-arg=COMPILE=1")
    with person(buildah, "optstudy") as container:
        yield same("with COMPILE=1, torch.compile works on the CPU", container.python(COMPILED), "192.0")
        yield f"that image has {buildah.size('optstudy')}", []


def lacking() -> str:
    """Say what this machine lacks for the check, if anything."""
    programs = [name for name in ("buildah", "mmdebstrap") if not shutil.which(name)]
    if programs:
        return f"{' and '.join(programs)} not found: on Debian, apt-get install {' '.join(programs)}"
    if os.geteuid():
        return "only root may build and run images by chroot"
    free = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    return f"{tempfile.gettempdir()} has {free:.0f} GB free, not {SPACE}; set TMPDIR" if free < SPACE else ""


def main() -> int:
    """Check what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--volume", action="append", default=[], metavar="PATH:INSIDE", help="mount during the build"
    )
    parser.add_argument(
        "--compile", action="store_true", help="try torch.compile in an image with a compiler, too"
    )
    arguments = parser.parse_args()
    if lack := lacking():
        print(f"image-check cannot run: {lack}", file=sys.stderr)
        return 1
    failed = 0
    with storage() as buildah:
        print(f"making a base of Debian bookworm with {BASE_PACKAGES}", flush=True)
        buildah.make_base()
        looks = [look, look_at_compiler] if arguments.compile else [look]
        for promise, problems in (check for step in looks for check in step(buildah, arguments.volume)):
            failed += bool(problems)
            print(f"FAIL {promise}: {'; '.join(problems[:9])}" if problems else f"ok   {promise}", flush=True)
    print(f"{failed} checks failed" if failed else "all is as it should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
