"""Where spaces and presets are found: file by file, the workspace's own before the packaged ones."""

from pathlib import Path
from typing import Literal

PACKAGED = Path(__file__).parent / "_tuning"


def tuning_files(kind: Literal["spaces", "presets"], workspace: Path) -> dict[str, Path]:
    """List the files of a kind that a workspace sees.

    Args:
        kind: Folder below ``tuning/``.
        workspace: Folder that holds ``tuning/``; it need not.

    Returns:
        File by name, sorted: the workspace's own where it has one, else the packaged one.
    """
    folders = (PACKAGED / kind, workspace / "tuning" / kind)
    found = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(found.items()))
