"""The embedded tracking store: a database and a folder of artifacts inside the workspace."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from optstudy.errors import OptstudyError, UsageError

# Columns in which MLflow stores absolute paths of artifacts.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)


def database(workspace: Path) -> Path:
    """Return the path of the embedded store's database."""
    return workspace.resolve() / "mlruns" / "mlflow.db"


def artifacts(workspace: Path) -> Path:
    """Return the embedded store's folder of artifacts."""
    return workspace.resolve() / "mlruns" / "artifacts"


def uri(workspace: Path) -> str:
    """Return the URI of the embedded store; absolute, since MLflow would create a new store for a relative one.

    Raises:
        UsageError: If the path contains a question mark, where SQLAlchemy would truncate it.
    """
    path = str(database(workspace))
    if "?" in path:
        raise UsageError(f"{path}: the path of a database cannot contain '?'; choose another --workspace")
    return f"sqlite:///{path}"


def update_moved_paths(workspace: Path) -> str | None:
    """Update the artifact paths in the database if the workspace was moved or copied, after a backup.

    MLflow stores absolute paths, and silently lists no artifacts if they do not exist.

    Returns:
        A one-line notice, or None if nothing had to be updated.
    """
    path, current_root = database(workspace), artifacts(workspace).as_uri()
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            old_roots = _old_roots(connection, current_root)
            if not old_roots:
                return None
            backup = path.with_name(f"{path.name}.before-move-{time.strftime('%Y%m%d-%H%M%S')}")
            with closing(sqlite3.connect(backup)) as copy:
                connection.backup(copy)
            with connection:
                for old in old_roots:
                    for table, column in _LOCATIONS:
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608  # constants
                            f" WHERE substr({column}, 1, ?) = ?",
                            (current_root, len(old) + 1, len(old), old),
                        )
    except sqlite3.Error as error:
        raise OptstudyError(f"{path} cannot be read as a tracking database ({error})") from error
    origin = ", ".join(unquote(urlsplit(old).path).removesuffix("/mlruns/artifacts") for old in old_roots)
    return f"the workspace was moved from {origin}: updated its artifact locations (before: {backup})"


def _old_roots(connection: sqlite3.Connection, current_root: str) -> list[str]:
    marker = "/mlruns/artifacts"
    rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    roots = {
        location[: location.index(marker) + len(marker)]
        for (location,) in rows
        if location and marker + "/" in location
    }
    return sorted(roots - {current_root})
