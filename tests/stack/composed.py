"""compose.yaml as an engine would read it, and what its services mount, as folders of this machine."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # podman-compose brings it, without types

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    """A folder with compose.yaml and what `make secrets` makes."""

    folder: Path
    compose: dict[str, Any]

    def service(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.compose["services"][name]
        return found

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def passwords(self) -> list[str]:
        _, _, key = self.secret("mlflow_server.env").partition("=")
        return [self.secret("postgres_password"), self.secret("mlflow_password"), key]


@dataclass(frozen=True)
class Mounts:
    """Where what a service mounts is on this machine."""

    folders: dict[str, Path]

    def __call__(self, word: str) -> str:
        """Return a word of the service's command or environment with its path as it is here."""
        for target in sorted(self.folders, key=len, reverse=True):
            if target in word:
                return word.replace(target, str(self.folders[target]))
        return word


def make_secrets(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Do what `make secrets` does, in a folder of its own."""
    (folder / "deploy").mkdir(exist_ok=True)
    for name in ("compose.yaml", "deploy/secrets.sh"):
        shutil.copy(REPOSITORY / name, folder / name)
    return subprocess.run(
        ["/bin/sh", "deploy/secrets.sh"], cwd=folder, check=True, text=True, capture_output=True
    )


def project(folder: Path) -> Project:
    """Make the secrets and read compose.yaml with them."""
    make_secrets(folder)
    return Project(folder, parsed(folder))


def parsed(folder: Path) -> dict[str, Any]:
    """Read compose.yaml as podman-compose does; a dry run asks for no engine."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("podman-compose"),
            *("--dry-run", "-f", "compose.yaml", "--profile", "study", "config"),
        ],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("OPTSTUDY_")},
        check=True,
        text=True,
        capture_output=True,
    )
    read: dict[str, Any] = yaml.safe_load(done.stdout)
    return read


def target(mount: str) -> str:
    """Return the path inside the container of a line below `volumes` or `tmpfs`."""
    return next(part for part in mount.split(":") if part.startswith("/"))


def mounted(project: Project, name: str) -> Mounts:
    """Give a service its mounts: secrets are links to their files, volumes and temporary folders are folders."""
    service, root = project.service(name), project.folder / "root" / name
    folders = {}
    for mount in [*service.get("volumes", []), *service["tmpfs"]]:
        folders[target(mount)] = root / target(mount)[1:]
        folders[target(mount)].mkdir(parents=True, exist_ok=True)
    for secret in service["secrets"]:
        asked = {"source": secret, "target": f"/run/secrets/{secret}"} if isinstance(secret, str) else secret
        here = folders[asked["target"]] = root / asked["target"][1:]
        here.parent.mkdir(parents=True, exist_ok=True)
        here.symlink_to(project.folder / project.compose["secrets"][asked["source"]]["file"])
    return Mounts(folders)
