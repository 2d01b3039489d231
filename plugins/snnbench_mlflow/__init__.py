"""Mirrors results to MLflow: ``snnbench run`` as they come, ``snnbench sync`` whatever is missing.

``rows`` says what a result looks like in MLflow, ``tracking`` where MLflow is and how long to wait for it, ``sink``
writes the one to the other.
"""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Sink, hookimpl
from snnbench_mlflow.sink import MlflowSink

SNNBENCH_API = (1, 0)

__all__ = ["MlflowSink"]


@hookimpl
def snnbench_sinks() -> Sequence[type[Sink]]:
    """Provide the sink ``mlflow``."""
    return [MlflowSink]
