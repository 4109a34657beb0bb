"""Find and load ``tuning/spaces/NAME.toml``: an optimizer's search space, label, colour and citation."""

import functools
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Literal

from optstudy.errors import UsageError, suggestion
from optstudy.optimizers.space_file import parse_space
from optstudy.records.look import Looks, derive_look
from optstudy.records.space import Space

PACKAGED = Path(__file__).parents[1] / "_tuning"


def find_spaces(workspace: Path) -> dict[str, Path]:
    """Return the space file of each optimizer, sorted by name; see `tuning_files`."""
    return tuning_files("spaces", workspace)


def load_space(name: str, workspace: Path) -> Space:
    """Read the space of one optimizer.

    Args:
        name: Name of a space file, without its extension.
        workspace: Folder whose ``tuning/spaces`` takes precedence.

    Raises:
        UsageError: If there is no such optimizer, or its file is malformed.
    """
    spaces = find_spaces(workspace)
    if name not in spaces:
        hint = suggestion(name.lower(), spaces)
        raise UsageError(f"no optimizer is named {name!r}{hint}; there are {', '.join(spaces)}")
    return parse_space(spaces[name])


@functools.cache
def packaged_optimizers() -> frozenset[str]:
    """Return the class paths of the optimizers whose spaces come with optstudy."""
    return frozenset(parse_space(file).optimizer for file in (PACKAGED / "spaces").glob("*.toml"))


def read_looks(optimizers: Collection[str], workspace: Path, recorded: Iterable[Space] = ()) -> Looks:
    """Return the labels, colours, styles and citations of optimizers.

    Args:
        optimizers: Names of the optimizers.
        workspace: Folder whose ``tuning/spaces`` takes precedence over everything else.
        recorded: Spaces recorded by searches, which take precedence over the packaged files.

    Returns:
        Looks by optimizer name; spaces that set none of these keys are ignored.

    Raises:
        UsageError: If the space file of an optimizer is malformed.
    """

    def read(folder: Path) -> list[Space]:
        files = (folder / f"{name}.toml" for name in optimizers)
        return [parse_space(file) for file in files if file.exists()]

    spaces = (*read(PACKAGED / "spaces"), *recorded, *read(workspace / "tuning" / "spaces"))
    return Looks({space.name: space.look for space in spaces if space.look != derive_look(space.name)})


def tuning_files(kind: Literal["spaces", "presets"], workspace: Path) -> dict[str, Path]:
    """Return the tuning files that are available in a workspace.

    Args:
        kind: Folder below ``tuning/``.
        workspace: Folder that may contain ``tuning/``.

    Returns:
        Files by name, sorted; files of the workspace take precedence over packaged ones.
    """
    folders = (PACKAGED / kind, workspace / "tuning" / kind)
    files = {path.stem: path for folder in folders for path in folder.glob("*.toml")}
    return dict(sorted(files.items()))
