"""The embedded tracking store: a database and a folder of artifacts inside the workspace."""

import contextlib
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from optstudy.errors import OptstudyError, UsageError, first_line
from optstudy.records.io import find_unwritten

# Columns in which MLflow stores absolute paths of artifacts.
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)
_ROOT = "/mlruns/artifacts"  # of a workspace, in the path of an artifact


def database(workspace: Path) -> Path:
    """Return the path of the embedded store's database."""
    return workspace.resolve() / "mlruns" / "mlflow.db"


def artifacts(workspace: Path) -> Path:
    """Return the embedded store's folder of artifacts."""
    return workspace.resolve() / "mlruns" / "artifacts"


def uri(workspace: Path) -> str:
    """Return the URI of the embedded store; absolute, since MLflow would create a new store for a relative one.

    Raises:
        UsageError: If no URI leads to a database of this path.
    """
    return database_uri(database(workspace))


def database_uri(path: Path) -> str:
    """Return the URI of a SQLite database for SQLAlchemy and MLflow.

    Raises:
        UsageError: If no URI leads to a database of this path.
    """
    from sqlalchemy import URL, make_url

    try:
        quoted = URL.create("sqlite", database=str(path)).render_as_string()
    except UnicodeEncodeError:  # a name that is no text
        quoted = "sqlite://"
    if make_url(quoted).database != str(path):  # SQLAlchemy 2.0 quotes nothing
        raise UsageError(f"{path}: no database can have this path; choose another --workspace")
    # MLflow creates the folder of what follows "sqlite:///", which it does not unquote.
    return quoted if quoted == f"sqlite:///{path}" else quoted.replace("sqlite:", "sqlite+pysqlite:", 1)


def database_path(uri: str) -> Path | None:
    """Return the file of a SQLite database; None for any other address."""
    from sqlalchemy import make_url

    url = make_url(uri) if urlsplit(uri).scheme.startswith("sqlite") else None
    return Path(url.database) if url is not None and url.database else None


def database_error(path: Path, error: BaseException) -> OptstudyError:
    """Explain an exception that SQLite, SQLAlchemy, alembic or MLflow has raised about a database."""
    if unwritten := find_unwritten(error, path):
        return unwritten
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
        causes.append(cause)
    reported = next((cause for cause in causes if isinstance(cause, sqlite3.Error)), causes[-1])
    reason = first_line(reported)
    if getattr(reported, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return OptstudyError(
            f"{path} is in use by another program ({reason}); nothing finished is lost, and the same command goes on"
        )
    return OptstudyError(
        f"{path} cannot be read as a tracking database ({reason}); restore it, or move it away and rerun the study's"
        " command: it logs the runs again from tuning/studies"
    )


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
            locations = connection.execute("SELECT artifact_location FROM experiments").fetchall()
            roots = {_root(location) for (location,) in locations}
            old_roots = sorted(root for root in roots if root and root != current_root)
            if not old_roots:
                return None
            backup = _back_up(connection, path)
            connection.create_function("moved", 1, lambda location: _moved(location, current_root))
            with connection:
                for table, column in _LOCATIONS:
                    connection.execute(f"UPDATE {table} SET {column} = moved({column})")  # noqa: S608  # constants
    except (
        sqlite3.Error,
        UnicodeError,
        TypeError,
        AttributeError,
    ) as error:  # also of values of another type
        raise database_error(path, error) from error
    origin = ", ".join(unquote(urlsplit(old).path).removesuffix(_ROOT) for old in old_roots)
    return f"the workspace was moved from {origin}: updated its artifact locations (before: {backup})"


def _back_up(connection: sqlite3.Connection, path: Path) -> Path:
    backup = path.with_name(f"{path.name}.before-move-{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        with closing(sqlite3.connect(backup)) as copy:
            connection.backup(copy)
    except sqlite3.Error:
        with contextlib.suppress(OSError):
            backup.unlink()  # it is incomplete
        raise
    return backup


def _root(location: str | None) -> str | None:
    """Return the folder of artifacts that holds a location; None for a location outside any workspace."""
    root, found, _ = (location or "").rpartition(f"{_ROOT}/")  # the path of the workspace may contain it, too
    return root + _ROOT if found else None


def _moved(location: str | None, current_root: str) -> str | None:
    """Return the same location inside the current folder of artifacts."""
    root = _root(location)
    return location if location is None or root is None else current_root + location[len(root) :]
