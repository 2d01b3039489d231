"""Where MLflow is, how it is reached, and how long it may keep snnbench waiting."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from snnbench import RunInfo, TrackingError, UsageError

if TYPE_CHECKING:
    from mlflow import MlflowClient

DEFAULT_PORT = 5000

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # MLflow's own defaults keep a caller for four minutes when the server is down and for sixteen when it hangs. A
    # retry of a request that did arrive would also make a second run.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    # The links it would print belong on no standard output that --json writes to.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""How MLflow is set up; what the user has set stays."""

_SYNC_HINT = "no result is lost; `snnbench sync` writes them once it answers again"


@dataclass(frozen=True, slots=True)
class Place:
    """Where results are mirrored to.

    Attributes:
        uri: MLflow's tracking URI.
        database: the SQLite file inside the store; None where the user named another place.
        artifact_root: folder for artifacts where no server takes them.
    """

    uri: str
    database: Path | None
    artifact_root: Path

    @classmethod
    def of(cls, run: RunInfo) -> Place:
        """Find the place: the option ``tracking_uri``, else MLFLOW_TRACKING_URI, else a file inside the store.

        Raises:
            UsageError: a folder was named; MLflow no longer writes to one.
        """
        artifact_root = run.store.resolve() / "mlartifacts"
        uri = run.options.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            database = run.store.resolve() / "mlflow.db"
            return cls(f"sqlite:///{database.as_posix()}", database, artifact_root)
        if urlsplit(uri).scheme in ("", "file"):
            raise UsageError(
                f"MLflow no longer tracks to a folder: {uri!r}",
                hint="give a server (http://host:5000) or a database (sqlite:///path/to/mlflow.db), or leave "
                "--tracking-uri and MLFLOW_TRACKING_URI away for a file inside the store",
            )
        return cls(uri, None, artifact_root)

    @property
    def is_server(self) -> bool:
        """An MLflow server, which has a page of its own and takes artifacts."""
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def shown(self) -> str:
        """The URI without user and password, for messages."""
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts.netloc else self.uri

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Turn what goes wrong between us and MLflow into a ``TrackingError``.

        Raises:
            TrackingError: MLflow, or what it needs for this URI, is not installed; it did not answer; it refused.
        """
        try:
            from mlflow.exceptions import MlflowException
            from sqlalchemy.exc import SQLAlchemyError

            try:
                yield
            except (MlflowException, SQLAlchemyError, OSError) as error:
                cause = (str(error).strip() or type(error).__name__).splitlines()[0].replace(self.uri, self.shown)
                raise TrackingError(f"MLflow at {self.shown} failed: {cause}", hint=_SYNC_HINT) from error
        except ModuleNotFoundError as error:
            absent = str(error.name).partition(".")[0]
            raise TrackingError(
                f"{absent} is not installed, so nothing is mirrored to MLflow",
                hint=f"pip install {absent}, then `snnbench sync`",
            ) from error

    def connect(self) -> MlflowClient:
        """Return a client. It has not talked to a server yet; a database of our own exists from here on.

        The environment is only added to, once: training starts workers from another thread, with a copy of it, and a
        name that vanishes while it is copied would end that thread.
        """
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        if self.database is not None:
            self._open_database(self.database)
        return MlflowClient(tracking_uri=self.uri)

    def _open_database(self, database: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)  # it reports every step of what follows

        def store(path: Path) -> Any:
            return SqlAlchemyStore(f"sqlite:///{path.as_posix()}", self.artifact_root.as_uri())

        database.parent.mkdir(parents=True, exist_ok=True)
        if not database.exists():
            # Writing the schema takes seconds. Made aside and linked into place, it is never seen half done: neither
            # by a second process that starts now, nor after a kill.
            with tempfile.TemporaryDirectory(prefix=".mlflow-", dir=database.parent) as folder:
                aside = Path(folder) / database.name
                store(aside).engine.dispose()
                with suppress(FileExistsError):
                    os.link(aside, database)
        # MLflow keeps connections for the life of the process; those from an earlier run may lead to a file that was
        # deleted or replaced since.
        store(database).engine.dispose()
