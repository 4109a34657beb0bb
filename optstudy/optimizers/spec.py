"""Space files: where they are, and the space that a name stands for."""

from pathlib import Path

from optstudy.errors import UsageError
from optstudy.lookup import tuning_files
from optstudy.nearest import closest
from optstudy.optimizers.parsing import parse_space
from optstudy.optimizers.space import Choice, Range, Space

__all__ = ["Choice", "Range", "Space", "find_spaces", "load_space", "parse_space"]


def find_spaces(workspace: Path) -> dict[str, Path]:
    """List the space files that a workspace sees.

    Args:
        workspace: Folder that holds ``tuning/``; it need not.

    Returns:
        File of each optimizer by name, sorted: the workspace's own where it has one, else the packaged one.
    """
    return tuning_files("spaces", workspace)


def load_space(name: str, workspace: Path) -> Space:
    """Read the space of one optimizer.

    Args:
        name: Name of a space file, without its ending.
        workspace: Folder whose ``tuning/spaces`` comes first.

    Returns:
        The space.

    Raises:
        UsageError: If there is no such optimizer, or its file is malformed.
    """
    spaces = find_spaces(workspace)
    if name not in spaces:
        near = closest(name.lower(), spaces)
        hint = f"did you mean {near!r}? " if near else ""
        raise UsageError(f"no optimizer is named {name!r}; {hint}there are {', '.join(spaces)}")
    return parse_space(spaces[name])
