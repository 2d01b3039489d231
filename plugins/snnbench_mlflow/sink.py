"""The sink: one flat MLflow run a trial, written whole when the trial's result is in the store."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from snnbench import Result, RunInfo, Sink, TrackingError
from snnbench_mlflow import rows
from snnbench_mlflow.figure import accuracy_over_time, raster
from snnbench_mlflow.tracking import DEFAULT_PORT, ENVIRONMENT, Place

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_METRICS_A_BATCH = 1000
_PARAMS_A_BATCH = 100
_SERVER_STOPS_S = 10


class MlflowSink(Sink):
    """Mirrors the store to MLflow: experiment = suite, one flat run a trial (its page folds nested runs away).

    A run is made when its trial's result is stored, and carries the trial's own start and end times. Epochs are not
    followed while they run (``epoch_finished``): so no kill leaves a run ``RUNNING`` for ever, a slow tracker is
    asked once a trial, and what MLflow shows can always be rebuilt from the store.

    A trial that is ``done`` ends as FINISHED; one that diverged, collapsed, crashed, timed out or was interrupted as
    FAILED, with its reason as a tag. A skipped trial did not run and has no run.

    Runs are recognised by the tags ``snnbench.key`` and ``snnbench.digest`` and count once they have ended. One of an
    earlier result of the same trial, or left half written by a kill, is deleted and written anew.

    Nothing reaches MLflow's global state: neither its tracking URI nor its active run.
    """

    name = "mlflow"

    _place: Place
    _client: MlflowClient
    _suite: str
    _experiment_id: str

    def run_started(self, run: RunInfo) -> None:
        """Connect, and find or make the experiment.

        Raises:
            UsageError: the tracking URI names a folder.
            TrackingError: MLflow is not installed, or does not answer within five seconds.
        """
        self._place = Place.of(run)
        self._suite = run.suite
        with self._place.answering():
            self._client = self._place.connect()
            self._experiment_id = self._open_experiment()

    def trial_finished(self, result: Result, files: Mapping[str, Path]) -> None:
        """Write the trial's run, unless it is there already.

        Raises:
            TrackingError: MLflow does not answer.
        """
        if result.status == "skipped":
            return
        digest = hashlib.sha256(files["json"].read_bytes()).hexdigest()
        with self._place.answering():
            if not self._mirrored(result.key, digest):
                self._write(result, files, digest)

    def run_finished(self, results: Sequence[Result]) -> Sequence[str]:  # noqa: ARG002
        """Return where the runs and their comparison can be seen."""
        base, when = self._place.shown.rstrip("/"), ""
        if not self._place.is_server:
            base, when = f"http://127.0.0.1:{DEFAULT_PORT}", " (after `snnbench ui`)"
        runs = f"{base}/#/experiments/{self._experiment_id}/runs"
        return [f"MLflow runs{when}: {runs}", f"MLflow comparison{when}: {runs}?compareRunsMode=CHART"]

    def serve(self, run: RunInfo, *, port: int) -> None:
        """Serve MLflow's page at ``http://127.0.0.1:port`` until Ctrl-C.

        Raises:
            TrackingError: there is nothing to serve, the port is taken, or MLflow's server ended by itself.
        """
        place = Place.of(run)
        with place.answering():
            import mlflow  # noqa: F401
        if place.is_server:
            raise TrackingError(f"{place.shown} serves its own page", hint="open it in a browser")
        if place.database is not None and not place.database.exists():
            raise TrackingError(
                f"nothing is mirrored to MLflow yet: there is no {place.database}", hint="run `snnbench sync` first"
            )
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        # One worker and no job runner: a quarter of the start-up time and half the memory, and enough for one reader.
        command += ["--workers", "1", "--artifacts-destination", str(place.artifact_root)]
        settings = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_BACKEND_STORE_URI": place.uri,  # not in the command: it may hold a password
        }
        _check_free(port)
        _log.info("MLflow starts at http://127.0.0.1:%d", port)
        server = subprocess.Popen(command, env={**ENVIRONMENT, **os.environ, **settings})
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
        finally:
            _stop(server)
        raise TrackingError(f"MLflow's server ended by itself, with exit code {code}", hint="its own messages say why")

    def _open_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        experiment = self._client.get_experiment_by_name(self._suite)
        if experiment is None:
            location = None if self._place.is_server else (self._place.artifact_root / self._suite).as_uri()
            try:
                return str(self._client.create_experiment(self._suite, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            experiment = self._client.get_experiment_by_name(self._suite)  # another process was faster
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _mirrored(self, key: str, digest: str) -> bool:
        """Say whether this very result is there; whatever else there is of its trial is deleted."""
        mirrored = False
        for run in self._client.search_runs([self._experiment_id], f"tags.`snnbench.key` = '{key}'"):
            same = run.data.tags.get("snnbench.digest") == digest and run.info.status in ("FINISHED", "FAILED")
            if same and not mirrored:
                mirrored = True
            else:
                self._client.delete_run(run.info.run_id)
        return mirrored

    def _write(self, result: Result, files: Mapping[str, Path], digest: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

        client, trial = self._client, result.trial
        start_ms, end_ms = rows.span_ms(result)
        run = client.create_run(
            self._experiment_id,
            start_time=start_ms,
            tags=rows.tags(result, suite=self._suite, digest=digest),
            run_name=rows.run_name(result),
        )
        run_id, points, figures = run.info.run_id, rows.metrics(result), {}
        if "npz" in files:
            series, curve = rows.series(files["npz"])
            points += series
            title = rows.run_name(result)
            figures = {
                "accuracy_over_time.png": accuracy_over_time(curve, title=title),
                "raster.png": raster(files["npz"], title=title),
            }

        for params in _batches((Param(*item) for item in rows.params(result).items()), _PARAMS_A_BATCH):
            client.log_batch(run_id, params=params)
        time_ms = end_ms or run.info.start_time
        metrics = (Metric(point.name, point.value, time_ms, point.step) for point in points)
        for batch in _batches(metrics, _METRICS_A_BATCH):
            client.log_batch(run_id, metrics=batch)

        source = json.dumps({"tags": {"mlflow.source.name": "snnbench", "split": trial.task.split}})
        dataset = Dataset(trial.task.dataset, trial.dataset_digest[:36], source_type="code", source=source)
        context = InputTag("mlflow.data.context", "training")
        _log_dataset(client, run_id, DatasetInput(dataset, [context]))

        for kind in ("json", "log"):
            if kind in files:
                client.log_artifact(run_id, str(files[kind]))
        for name, figure in figures.items():
            if figure is not None:
                client.log_figure(run_id, figure, name)

        # Last, for it is what makes the run count.
        client.set_terminated(run_id, "FINISHED" if result.status == "done" else "FAILED", end_time=end_ms)


def _log_dataset(client: MlflowClient, run_id: str, dataset: DatasetInput) -> None:
    """Note what a run learned from.

    MLflow looks whether it knows the dataset, and if not adds it. Of two runs that do so at the same time one fails, at
    the database's condition that there be one; the second time it finds what the other added.
    """
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, datasets=[dataset])
    except MlflowException as error:
        if "unique" not in str(error).lower():
            raise
        client.log_inputs(run_id, datasets=[dataset])


def _batches(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def _check_free(port: int) -> None:
    """Find out now what MLflow would say after half a minute, and then with exit code 0."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise TrackingError(f"port {port} cannot be used: {error.strerror}", hint="choose another port") from error


def _stop(server: subprocess.Popen[Any]) -> None:
    server.terminate()
    try:
        server.wait(_SERVER_STOPS_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
