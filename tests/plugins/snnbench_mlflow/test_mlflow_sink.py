from __future__ import annotations

import dataclasses
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from snnbench_mlflow import MlflowSink, rows
from snnbench_mlflow.tracking import ENVIRONMENT, Place

from snnbench import Result, RunInfo, Task, TrackingError, UsageError
from snnbench.types import Budget, Named, Status, Trial

pytestmark = [
    # SQLAlchemy 2.1 says so of an option that MLflow 3 sets on its own tables.
    pytest.mark.filterwarnings("ignore:.*noload.*:sqlalchemy.exc.SADeprecationWarning"),
]

STATUSES: tuple[Status, ...] = ("done", "diverged", "collapsed", "crashed", "timeout", "interrupted")


# --- what the tests are made of --------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sink adds to the environment is gone after the test."""
    for name in (*ENVIRONMENT, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


CONNECT = """
import sys
from pathlib import Path
from snnbench import RunInfo
from snnbench_mlflow import MlflowSink
MlflowSink().run_started(RunInfo(suite="made by two", store=Path(sys.argv[1]), n_trials=0, options={}))
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that holds MLflow's schema and no run: writing one takes seconds.

    Two processes make it at the same time, as two ``snnbench run`` on a new store would; neither may fail.
    """
    store = tmp_path_factory.mktemp("template")
    makers = [subprocess.Popen([sys.executable, "-W", "ignore", "-c", CONNECT, str(store)]) for _ in range(2)]
    assert [maker.wait() for maker in makers] == [0, 0]
    assert [path.name for path in store.iterdir()] == ["mlflow.db"]
    return store / "mlflow.db"


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Path:
    folder = tmp_path / "a store"
    folder.mkdir()
    shutil.copy(template, folder / "mlflow.db")
    return folder


def info(store: Path, suite: str = "digits", **options: Any) -> RunInfo:
    return RunInfo(suite=suite, store=store, n_trials=1, options=options)


def make_result(
    *,
    rule: str = "surrogate",
    seed: int = 0,
    status: Status = "done",
    params: Mapping[str, Any] | None = None,
    network: str = "32-16",
    **fields: Any,
) -> Result:
    task = Task("digits", Named("rate", {"gain": 0.5}), n_steps=4, dt_ms=1.0, input_shape=(1, 8, 8), n_classes=10)
    trial = Trial(
        rule=rule,
        params={"lr": 0.01, "surrogate": "arctan"} if params is None else params,
        task=task,
        network=network,
        seed=seed,
        budget=Budget(epochs=3),
        dataset_digest="d" * 64,
    )
    metrics = {
        "test_accuracy": 0.9,
        "energy_pj": {"horowitz-45nm": 12.5, "loihi": None},
        "t95_ms": None,
        "sops_per_sample": 1200,
    }
    return dataclasses.replace(Result(trial.key, "c0de", status, trial, metrics=metrics), **fields)


def curves(epochs: int = 3, steps: int = 4) -> dict[str, np.ndarray]:
    evaluated = np.arange(epochs)[1::2]
    return {
        "predictions": np.zeros(5, dtype=np.int64),
        "labels": np.zeros(5, dtype=np.int64),
        "spikes_per_neuron/output": np.array([3, 9]),
        "raster_ms/output": np.array([1.0, 1.0, 2.5], np.float32),
        "raster_neuron/output": np.array([0, 1, 1], np.int32),
        "raster_spikes/output": np.array([1, 1, 1], np.int16),
        "raster_total/output": np.array(3),
        "epoch_loss": np.linspace(2, 1, epochs),
        "epoch_train_s": np.full(epochs, 0.25),
        "evaluated_epochs": evaluated,
        "epoch_validation_accuracy": 0.5 + evaluated / 100,
        "epoch_test_accuracy": 0.4 + evaluated / 100,
        "times_ms": np.arange(1, steps + 1) * 1.0,
        "accuracy_over_time": np.linspace(0.1, 0.9, steps),
    }


def stored(store: Path, result: Result, **arrays: Any) -> dict[str, Path]:
    """Write a result as the store does, and return its files."""
    folder = store / "runs" / "digits"
    folder.mkdir(parents=True, exist_ok=True)
    files = {"json": folder / f"{result.key}.json"}
    files["json"].write_text(json.dumps(result.to_json()))
    if arrays:
        files["npz"] = folder / f"{result.key}.npz"
        np.savez(files["npz"], **arrays)
    return files


def mirror(run: RunInfo, *results: Result, files: Mapping[str, Mapping[str, Path]] | None = None) -> list[str]:
    """Do what a run and ``snnbench sync`` do."""
    sink = MlflowSink()
    sink.run_started(run)
    for result in results:
        sink.trial_finished(result, (files or {}).get(result.key) or stored(run.store, result))
    return list(sink.run_finished(results))


def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def mirrored(uri: str, suite: str = "digits") -> list[Any]:
    """Return the suite's runs that are not deleted."""
    mlflow = client(uri)
    return list(mlflow.search_runs([mlflow.get_experiment_by_name(suite).experiment_id]))


# --- rows ------------------------------------------------------------------------------------------------------------


def test_params_are_the_trials_fields_in_flat_names() -> None:
    params = rows.params(make_result(params={"lr": 0.01, "note": "x" * 7000}))
    assert params["rule"] == "surrogate"
    assert params["params.lr"] == "0.01"
    assert len(params["params.note"]) == 6000
    assert params["task.dataset"] == "digits"
    assert params["task.encoding"] == "rate[gain=0.5]"
    assert params["budget.epochs"] == "3"
    assert "budget.seconds" not in params


def test_metrics_are_numbers_only() -> None:
    metrics = {
        "a": 1,
        "b": {"c d": {"e(f)": 2.5}},
        "none": None,
        "text": "x",
        "nan": math.nan,
        "inf": math.inf,
        "l": [1],
    }
    assert rows.metrics(make_result(metrics=metrics)) == [rows.Point("a", 1.0), rows.Point("b.c d.e_f_", 2.5)]


def test_series_have_steps_and_skip_what_is_not_finite(tmp_path: Path) -> None:
    arrays = curves(epochs=5)
    arrays["epoch_loss"][3:] = math.inf, math.nan
    points, curve = rows.series(stored(tmp_path, make_result(), **arrays)["npz"])
    by_name: dict[str, list[int]] = {}
    for point in points:
        by_name.setdefault(point.name, []).append(point.step)
    assert by_name == {
        "epoch/loss": [0, 1, 2],
        "epoch/train_s": [0, 1, 2, 3, 4],
        "epoch/validation_accuracy": [1, 3],
        "epoch/test_accuracy": [1, 3],
        "time/test_accuracy": [0, 1, 2, 3],
    }
    assert curve is not None
    np.testing.assert_array_equal(curve.times_ms, [1, 2, 3, 4])


def test_span_is_that_of_the_trial() -> None:
    provenance = {"started": "2026-01-02T03:04:05+00:00", "wall_s": 1.5}
    assert rows.span_ms(make_result(provenance=provenance)) == (1767323045000, 1767323046500)
    assert rows.span_ms(make_result()) == (None, None)


def test_a_network_without_hidden_layers_has_no_part_in_the_name() -> None:
    assert rows.run_name(make_result(seed=3)) == "surrogate/digits/32-16/3"
    assert rows.run_name(make_result(rule="linear", network="")) == "linear/digits/0"


def test_a_tuning_trial_is_told_from_a_final_one():
    final = make_result(provenance={"tuning": {"study": "abc", "number": 4}})
    tuning = dataclasses.replace(final, trial=dataclasses.replace(final.trial, phase="tuning", seed=-1))
    assert rows.run_name(final) == "surrogate/digits/32-16/0"
    assert rows.run_name(tuning) == "surrogate/digits/32-16/tuning-4"
    phases = [rows.tags(result, suite="s", digest="d")["phase"] for result in (final, tuning)]
    assert phases == ["final", "tuning"]


# --- a database inside the store -------------------------------------------------------------------------------------


def test_a_done_trial_is_one_flat_finished_run(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = make_result(provenance={"started": "2026-01-02T03:04:05+00:00", "wall_s": 1.5})
    files = stored(store, result, **curves())
    files["log"] = files["json"].with_suffix(".log")
    files["log"].write_text("epoch 1\n")
    uri = Place.of(info(store)).uri
    mirror(info(store), result, files={result.key: files})

    (run,) = mirrored(uri)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "surrogate/digits/32-16/0")
    assert (run.info.start_time, run.info.end_time) == (1767323045000, 1767323046500)
    tags = run.data.tags
    assert "mlflow.parentRunId" not in tags
    assert {name: tags[name] for name in ("rule", "task", "network", "seed", "track", "status", "code")} == {
        "rule": "surrogate",
        "task": "digits",
        "network": "32-16",
        "seed": "0",
        "track": "package",
        "status": "done",
        "code": "c0de",
    }
    assert (tags["snnbench.key"], tags["snnbench.suite"]) == (result.key, "digits")
    assert run.data.params["params.surrogate"] == "arctan"

    assert run.data.metrics["test_accuracy"] == 0.9
    assert run.data.metrics["energy_pj.horowitz-45nm"] == 12.5
    assert run.data.metrics["sops_per_sample"] == 1200
    assert not {"t95_ms", "energy_pj.loihi"} & set(run.data.metrics)
    history = client(uri).get_metric_history(run.info.run_id, "time/test_accuracy")
    assert [(item.step, round(item.value, 6)) for item in history] == [(0, 0.1), (1, 0.366667), (2, 0.633333), (3, 0.9)]
    validation = client(uri).get_metric_history(run.info.run_id, "epoch/validation_accuracy")
    assert [(item.step, item.value) for item in validation] == [(1, 0.51)]

    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", "d" * 36)
    names = {item.path for item in client(uri).list_artifacts(run.info.run_id)}
    assert names == {files["json"].name, files["log"].name, "accuracy_over_time.png", "raster.png"}
    pictures = list((store / "mlartifacts" / "digits").rglob("*.png"))
    assert [picture.read_bytes()[:4] for picture in pictures] == [b"\x89PNG"] * 2
    assert {path.name for path in tmp_path.iterdir()} == {"a store"}, "something was written to the working directory"


def test_every_other_status_ends_as_failed_and_a_skipped_trial_has_no_run(store: Path) -> None:
    results = [make_result(seed=seed, status=status, reason=status) for seed, status in enumerate(STATUSES)]
    mirror(info(store), *results, make_result(seed=99, status="skipped", reason="cannot"))
    runs = mirrored(Place.of(info(store)).uri)
    assert {run.data.tags["status"]: run.info.status for run in runs} == {
        status: "FINISHED" if status == "done" else "FAILED" for status in STATUSES
    }
    assert {run.data.tags["reason"] for run in runs} == set(STATUSES)


def test_sync_twice_changes_nothing(store: Path) -> None:
    results = [make_result(seed=seed) for seed in range(3)]
    uri = Place.of(info(store)).uri
    mirror(info(store), *results)
    first = {run.info.run_id for run in mirrored(uri)}
    mirror(info(store), *results)
    mirror(info(store), *results)
    assert {run.info.run_id for run in mirrored(uri)} == first
    assert len(first) == 3


def test_a_result_that_was_run_again_replaces_its_run(store: Path) -> None:
    mirror(info(store), make_result(status="crashed", reason="boom"), make_result(seed=1))
    mirror(info(store), make_result(), make_result(seed=1))
    runs = mirrored(Place.of(info(store)).uri)
    assert sorted((run.data.tags["seed"], run.info.status) for run in runs) == [("0", "FINISHED"), ("1", "FINISHED")]


def test_a_run_that_a_kill_left_half_written_is_replaced(store: Path) -> None:
    result, uri = make_result(), Place.of(info(store)).uri
    mirror(info(store), result)
    (whole,) = mirrored(uri)
    client(uri).delete_run(whole.info.run_id)
    half = client(uri).create_run(whole.info.experiment_id, tags=dict(whole.data.tags))
    mirror(info(store), result)
    (run,) = mirrored(uri)
    assert run.info.run_id not in (half.info.run_id, whole.info.run_id)
    assert run.info.status == "FINISHED"


def test_a_second_run_of_the_same_result_is_deleted(store: Path) -> None:
    result, uri = make_result(), Place.of(info(store)).uri
    mirror(info(store), result)
    (run,) = mirrored(uri)
    twin = client(uri).create_run(run.info.experiment_id, tags=dict(run.data.tags))
    client(uri).set_terminated(twin.info.run_id)
    mirror(info(store), result)
    assert len(mirrored(uri)) == 1


def test_a_deleted_experiment_comes_back_without_the_runs_that_were_replaced(store: Path) -> None:
    uri = Place.of(info(store)).uri
    mirror(info(store), make_result(status="crashed"))
    mirror(info(store), make_result())
    client(uri).delete_experiment(client(uri).get_experiment_by_name("digits").experiment_id)
    mirror(info(store), make_result())
    (run,) = mirrored(uri)
    assert run.data.tags["status"] == "done"


def test_a_deleted_database_is_rebuilt_in_the_same_process(store: Path, tmp_path: Path, template: Path) -> None:
    def in_the_file() -> int:
        # A copy, for MLflow would read a file it knows through connections it has, which may lead elsewhere.
        copy = tmp_path / f"{time.monotonic_ns()}.db"
        shutil.copy(store / "mlflow.db", copy)
        return len(mirrored(f"sqlite:///{copy}"))

    results = [make_result(seed=seed) for seed in range(2)]
    mirror(info(store), *results)
    (store / "mlflow.db").unlink()
    mirror(info(store), *results)
    assert in_the_file() == 2
    assert sorted(path.name for path in store.iterdir()) == ["mlartifacts", "mlflow.db", "runs"]

    shutil.copy(template, store / "other.db")
    (store / "other.db").replace(store / "mlflow.db")  # as another process would have rebuilt it
    mirror(info(store), *results)
    assert in_the_file() == 2


def test_thousands_of_points_and_hundreds_of_params_fit(store: Path) -> None:
    result = make_result(params={f"p{index}": index for index in range(205)})
    arrays = curves(epochs=2, steps=2500)
    mirror(info(store), result, files={result.key: stored(store, result, **arrays)})
    uri = Place.of(info(store)).uri
    (run,) = mirrored(uri)
    assert run.data.params["params.p204"] == "204"
    assert len(client(uri).get_metric_history(run.info.run_id, "time/test_accuracy")) == 2500


def test_two_runs_mirror_to_one_database_at_once(store: Path) -> None:
    results = [make_result(seed=seed) for seed in range(12)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda part: mirror(info(store), *part), (results[::2], results[1::2])))
    assert len(mirrored(Place.of(info(store)).uri)) == 12


def test_a_dataset_that_another_run_adds_meanwhile_is_found_the_second_time(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    log_inputs, attempts = MlflowClient.log_inputs, []

    def beaten_to_it(self: MlflowClient, *arguments: Any, **options: Any) -> None:
        attempts.append(arguments)
        if len(attempts) == 1:
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed: datasets.experiment_id")
        log_inputs(self, *arguments, **options)

    monkeypatch.setattr(MlflowClient, "log_inputs", beaten_to_it)
    mirror(info(store), make_result())
    (run,) = mirrored(Place.of(info(store)).uri)
    assert len(attempts) == 2
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["digits"]


def test_a_worker_without_matplotlib_mirrors_without_figure(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = make_result()
    mirror(info(store), result, files={result.key: stored(store, result, **curves())})
    (run,) = mirrored(Place.of(info(store)).uri)
    assert run.info.status == "FINISHED"
    assert not list((store / "mlartifacts").rglob("*.png"))


def test_a_network_that_does_not_spike_has_no_raster(store: Path) -> None:
    result = make_result()
    arrays = {name: array for name, array in curves().items() if not name.startswith("raster_")}
    mirror(info(store), result, files={result.key: stored(store, result, **arrays)})
    assert [path.name for path in (store / "mlartifacts").rglob("*.png")] == ["accuracy_over_time.png"]


def test_links_open_the_runs_and_their_comparison(store: Path) -> None:
    lines = mirror(info(store))
    experiment = client(Place.of(info(store)).uri).get_experiment_by_name("digits").experiment_id
    page = f"http://127.0.0.1:5000/#/experiments/{experiment}/runs"
    assert [line.rpartition(" ")[2] for line in lines] == [page, f"{page}?compareRunsMode=CHART"]
    assert all("snnbench ui" in line for line in lines)


def test_the_users_global_tracking_uri_is_left_alone(store: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    mirror(info(store), make_result())
    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None


# --- another place ---------------------------------------------------------------------------------------------------


def test_the_option_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://environment")
    assert Place.of(info(tmp_path)).uri == "http://environment"
    assert Place.of(info(tmp_path, tracking_uri="http://option")).uri == "http://option"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Place.of(info(tmp_path, tracking_uri=None)).uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_another_database_may_be_named(store: Path, tmp_path: Path, template: Path) -> None:
    shutil.copy(template, tmp_path / "team.db")
    uri = f"sqlite:///{tmp_path}/team.db"
    mirror(info(store, tracking_uri=uri), make_result())
    assert len(mirrored(uri)) == 1
    assert client(Place.of(info(store)).uri).get_experiment_by_name("digits") is None


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "file:mlruns", "./mlruns", "mlruns"])
def test_a_folder_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(UsageError, match="no longer tracks to a folder") as caught:
        MlflowSink().run_started(info(tmp_path, tracking_uri=uri))
    assert "sqlite:///" in caught.value.hint


def test_messages_hold_no_password(tmp_path: Path) -> None:
    with pytest.raises(TrackingError) as caught:
        MlflowSink().run_started(info(tmp_path, tracking_uri=f"http://me:secret@127.0.0.1:{free_port()}"))
    assert "secret" not in str(caught.value)
    assert "127.0.0.1" in str(caught.value)


def test_an_unknown_kind_of_place_is_a_tracking_error(tmp_path: Path) -> None:
    with pytest.raises(TrackingError):
        MlflowSink().run_started(info(tmp_path, tracking_uri="gopher://host"))


def test_mlflow_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mlflow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match="mlflow is not installed") as caught:
        MlflowSink().run_started(info(tmp_path))
    assert "pip install mlflow" in caught.value.hint
    with pytest.raises(TrackingError, match="mlflow is not installed"):
        MlflowSink().serve(info(tmp_path), port=free_port())


def test_the_plugin_is_importable_without_mlflow_and_matplotlib() -> None:
    code = (
        "import sys; sys.modules.update(mlflow=None, matplotlib=None)\n"
        "import snnbench_mlflow\n"
        "assert [sink.name for sink in snnbench_mlflow.snnbench_sinks()] == ['mlflow']\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- servers ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield int(listener.getsockname()[1])


def fails_within(seconds: float, run: RunInfo) -> TrackingError:
    start = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        MlflowSink().run_started(run)
    assert time.monotonic() - start < seconds
    return caught.value


def test_a_server_that_is_down_costs_a_moment(tmp_path: Path) -> None:
    error = fails_within(3, info(tmp_path, tracking_uri=f"http://127.0.0.1:{free_port()}"))
    assert "snnbench sync" in error.hint


def test_a_server_that_hangs_costs_seconds(tmp_path: Path, hanging_port: int) -> None:
    error = fails_within(9, info(tmp_path, tracking_uri=f"http://127.0.0.1:{hanging_port}"))
    assert "snnbench sync" in error.hint


def test_there_is_no_page_to_serve_before_anything_is_mirrored(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="nothing is mirrored") as caught:
        MlflowSink().serve(info(tmp_path), port=free_port())
    assert "snnbench sync" in caught.value.hint


def test_a_servers_page_is_its_own(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="serves its own page"):
        MlflowSink().serve(info(tmp_path, tracking_uri="http://host:5000"), port=free_port())


def test_a_port_that_is_taken_is_named(store: Path, hanging_port: int) -> None:
    with pytest.raises(TrackingError, match=f"port {hanging_port} cannot be used"):
        MlflowSink().serve(info(store), port=hanging_port)


SERVE = """
import sys
from pathlib import Path
from snnbench import RunInfo
from snnbench_mlflow import MlflowSink
MlflowSink().serve(RunInfo(suite="", store=Path(sys.argv[1]), n_trials=0, options={}), port=int(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_real_server_shows_and_takes_runs_and_ends_with_ctrl_c(store: Path, tmp_path: Path) -> None:
    mirror(info(store), make_result())
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(store), str(port)], cwd=tmp_path)
    try:
        wait_for(port, server)
        assert len(mirrored(uri)) == 1, "the store's own runs are served"

        run = info(store, suite="to a server", tracking_uri=uri + "/")
        result = make_result(rule="linear", network="")
        files = {result.key: stored(store, result, **curves())}
        lines = mirror(run, result, files=files)
        mirror(run, result, files=files)
        (taken,) = mirrored(uri, "to a server")
        assert taken.info.status == "FINISHED"
        assert taken.data.params["network"] == ""
        assert len(taken.inputs.dataset_inputs) == 1
        names = {item.path for item in client(uri).list_artifacts(taken.info.run_id)}
        assert names == {files[result.key]["json"].name, "accuracy_over_time.png", "raster.png"}
        assert lines[0] == f"MLflow runs: {uri}/#/experiments/{taken.info.experiment_id}/runs"
    finally:
        server.send_signal(signal.SIGINT)
        code = server.wait(20)
    assert code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.slow
def test_the_server_ends_with_the_command_that_is_told_to_end(store: Path) -> None:
    mirror(info(store), make_result())
    port = free_port()
    command = subprocess.Popen([sys.executable, "-m", "snnbench", "ui", "--store", str(store), "--port", str(port)])
    try:
        wait_for(port, command)
    finally:
        command.send_signal(signal.SIGTERM)
        code = command.wait(20)
    assert code == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail("the server did not start")
