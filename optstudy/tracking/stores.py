"""Open the MLflow store of a workspace's runs."""

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mlflow.exceptions import MlflowException

from optstudy.errors import OptstudyError, UsageError, first_line
from optstudy.records.io import writing
from optstudy.records.location import Location, study_names, workspace_option
from optstudy.tracking import embedded
from optstudy.tracking.connection import PATIENCE, hide_credentials
from optstudy.tracking.writer import Tracking

READ_PATIENCE = 10.0  # seconds of retries for commands that only read


def open_tracking(location: Location, patience: float = PATIENCE) -> tuple[Tracking, str | None]:
    """Open an MLflow server, by default MLFLOW_TRACKING_URI, or the workspace's own store.

    Returns:
        The store, and a notice if the workspace had been moved and its artifact paths were updated.

    Raises:
        UsageError: If MLflow does not support the address.
        OptstudyError: If the workspace's own store cannot be written or read.
    """
    workspace = location.workspace
    if location.uri:
        return _open_server(location.uri, patience), None
    address, path = embedded.uri(workspace), embedded.database(workspace)
    try:
        with writing(path.parent, "choose another --workspace"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _make_database(path)
        notice = embedded.update_moved_paths(workspace)
        return Tracking(address, embedded.artifacts(workspace)), notice
    except OptstudyError:
        raise
    except Exception as error:  # raised by SQLAlchemy, alembic or MLflow
        raise embedded.database_error(path, error) from error


def open_existing(location: Location) -> Tracking:
    """Open an existing store like `open_tracking`, but do not create one.

    Raises:
        UsageError: If the workspace has no store.
    """
    if not (location.uri or embedded.database(location.workspace).exists()):
        raise UsageError(_no_store(location.workspace))
    return open_tracking(location, READ_PATIENCE)[0]


def _no_store(workspace: Path) -> str:
    names, option = study_names(workspace), workspace_option(workspace)
    if not names:
        return f"no study has run in {workspace.resolve()} yet; run: optstudy study --preset quick{option}"
    commands = ", ".join(f"optstudy study --study {name}{option}" for name in reversed(names))
    return (
        f"{embedded.database(workspace)} is missing; move it back, or log the runs again from tuning/studies"
        f" with: {commands}"
    )


def _open_server(uri: str, patience: float) -> Tracking:
    try:
        return Tracking(uri, patience=patience)
    except OptstudyError:
        raise
    except Exception as error:  # database drivers have their own errors
        # MLflow's own messages are long, and say only that the kind of address is unknown.
        why = "" if isinstance(error, MlflowException) else f" ({type(error).__name__}: {first_line(error)})"
        raise UsageError(
            f"{hide_credentials(uri)}: MLflow does not support this address{why};"
            " give a server, such as http://HOST:PORT or databricks,"
            " or a database, such as sqlite:////FOLDER/mlflow.db or postgresql://HOST/NAME"
        ) from error


def _make_database(path: Path) -> None:
    """Create an empty database in a temporary folder, and move it when it is complete.

    MLflow cannot open a database whose creation was interrupted. The lock is released when the process that holds it
    ends, so any unfinished database is abandoned and can be deleted.
    """
    if path.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with path.with_name("lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return
        for leftover in path.parent.glob(f"{path.name}.new*"):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        # Each attempt has another path, since MLflow keeps the connection to a database that it could not create.
        with tempfile.TemporaryDirectory(prefix=f"{path.name}.new-", dir=path.parent) as folder:
            new = Path(folder, path.name)
            create_store: Any = SqlAlchemyStore
            create_store(embedded.database_uri(new), DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
            new.rename(path)
