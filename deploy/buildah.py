"""Images that buildah makes and runs in a folder of their own, which goes away with them.

Isolation by chroot needs root, but neither a registry nor user namespaces: it works inside containers too.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BASE = "localhost/base"
BASE_PACKAGES = "python3,python3-venv,libpython3-dev,ca-certificates"  # python:3.11-slim has Python.h too


@dataclass(frozen=True)
class Ended:
    """What a command in a container printed."""

    out: str
    err: str


@dataclass(frozen=True)
class Buildah:
    """Images and containers in one folder."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """The start of every command."""
        places = [f"--root={self.folder / 'images'}", f"--runroot={self.folder / 'run'}"]
        return ["buildah", *places, "--storage-driver=overlay"]

    def __call__(self, *words: str) -> str:
        """Run buildah, and return what it printed."""
        return ended([*self.command, *words]).out.strip()

    def make_base(self) -> None:
        """Make an image of Debian bookworm with its Python 3.11 out of Debian's packages."""
        tar = self.folder / "base.tar"
        ended(["mmdebstrap", "--variant=minbase", f"--include={BASE_PACKAGES}", "bookworm", str(tar)])
        container = self("from", "scratch")
        self("add", "--quiet", container, str(tar), "/")
        self("commit", "--quiet", container, BASE)
        self("rm", container)
        tar.unlink()

    def build(self, volumes: Sequence[str], *arguments: str) -> None:
        """Build the image as `make image` does, on that base; what is mounted serves the build alone."""
        mounts = [f"--volume={volume}:ro" for volume in volumes]
        ways = ["--isolation=chroot", "--network=host", f"--build-arg=BASE={BASE}"]
        engine = {**os.environ, "ENGINE": " ".join(self.command)}
        script = ROOT / "deploy" / "image.sh"
        subprocess.run(["sh", str(script), *ways, *mounts, *arguments], env=engine, check=True)

    def image(self, name: str) -> dict[str, Any]:
        """Return an image's configuration and history, as the OCI names them."""
        described: dict[str, Any] = json.loads(self("inspect", "--type=image", name))["OCIv1"]
        return described

    def size(self, name: str) -> str:
        """Return an image's size in words."""
        return self("images", "--format={{.Size}}", name)

    def layers(self, name: str) -> list[Path]:
        """Return the folders of an image's layers, the uppermost first: what a later one hides included."""
        index = self.folder / "images"
        images = json.loads((index / "overlay-images" / "images.json").read_text())
        layers = json.loads((index / "overlay-layers" / "layers.json").read_text())
        parent = {layer["id"]: layer.get("parent") for layer in layers}
        (at,) = [
            image["layer"] for image in images if f"localhost/{name}:latest" in (image.get("names") or ())
        ]
        found = []
        while at:
            found.append(index / "overlay" / at / "diff")
            at = parent[at]
        return found

    def run(self, container: str, *words: str, user: str = "", volumes: Sequence[str] = ()) -> Ended:
        """Run a command in a container, in the folder that is mounted first if any is."""
        options = [f"--user={user}"] * bool(user) + [f"--volume={volume}" for volume in volumes]
        options += [f"--workingdir={volume.split(':')[1]}" for volume in volumes[:1]]
        return ended([*self.command, "run", "--isolation=chroot", *options, container, "--", *words])


def ended(command: Sequence[str]) -> Ended:
    """Run a command that must succeed, and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return Ended(done.stdout, done.stderr)


@contextmanager
def storage() -> Iterator[Buildah]:
    """Yield a folder for images, and remove it with all that is mounted there."""
    folder = Path(tempfile.mkdtemp(prefix="optstudy-image-"))
    buildah = Buildah(folder)
    os.environ["TMPDIR"] = str(folder)  # buildah's own would be /var/tmp
    try:
        yield buildah
    finally:
        buildah("umount", "--all")
        buildah("rm", "--all")
        subprocess.run(["umount", str(folder / "images" / "overlay")], capture_output=True, check=False)
        if str(folder) in Path("/proc/self/mounts").read_text():
            raise SystemExit(f"{folder} has mounts left; it stays, so that nothing behind them is removed")
        shutil.rmtree(folder)
