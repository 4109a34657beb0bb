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
    """The embedded store's database."""
    return workspace.resolve() / "mlruns" / "mlflow.db"


def artifacts(workspace: Path) -> Path:
    """The embedded store's folder of artifacts."""
    return workspace.resolve() / "mlruns" / "artifacts"


def uri(workspace: Path) -> str:
    """Return the URI of the embedded store; absolute, since MLflow would create a new store for a relative one.

    Raises:
        UsageError: If the path has a question mark, at which SQLAlchemy cuts off the path.
    """
    path = str(database(workspace))
    if "?" in path:
        raise UsageError(f"{path}: no database can lie below a name with '?'; choose another --workspace")
    return f"sqlite:///{path}"


def update_moved_paths(workspace: Path) -> str | None:
    """Update the artifact paths in the database if the workspace was moved or copied, after a backup.

    MLflow stores absolute paths, and silently lists no artifacts if they do not exist.

    Returns:
        A one-line notice, or None if nothing had to be updated.
    """
    path, here = database(workspace), artifacts(workspace).as_uri()
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(path)) as connection:
            before = _elsewhere(connection, here)
            if not before:
                return None
            backup = path.with_name(f"{path.name}.before-move-{time.strftime('%Y%m%d-%H%M%S')}")
            with closing(sqlite3.connect(backup)) as copy:
                connection.backup(copy)
            with connection:
                for old in before:
                    for table, column in _LOCATIONS:
                        connection.execute(
                            f"UPDATE {table} SET {column} = ? || substr({column}, ?)"  # noqa: S608  # constants
                            f" WHERE substr({column}, 1, ?) = ?",
                            (here, len(old) + 1, len(old), old),
                        )
    except sqlite3.Error as error:
        raise OptstudyError(f"{path}: not a tracking database that can be read ({error})") from error
    origin = ", ".join(unquote(urlsplit(old).path).removesuffix("/mlruns/artifacts") for old in before)
    return f"the workspace was moved from {origin}: updated its artifact locations (before: {backup})"


def _elsewhere(connection: sqlite3.Connection, here: str) -> list[str]:
    marker = "/mlruns/artifacts"
    rows = connection.execute("SELECT artifact_location FROM experiments").fetchall()
    roots = {
        location[: location.index(marker) + len(marker)]
        for (location,) in rows
        if location and marker + "/" in location
    }
    return sorted(roots - {here})
