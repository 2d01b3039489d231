"""snnbench: every spiking learning rule on the same data, network, budget and seeds, measured with one ruler.

This is the public face: what plugin authors and notebook users import. Names are resolved at first use, so that
importing it loads neither torch nor any plugin. Building blocks that rules share are in ``snnbench.layers`` and
``snnbench.kernels``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snnbench.api import load_results as load_results
    from snnbench.api import run as run
    from snnbench.dataset import Dataset as Dataset
    from snnbench.dataset import DatasetInfo as DatasetInfo
    from snnbench.dataset import Encoding as Encoding
    from snnbench.dataset import EventSamples as EventSamples
    from snnbench.dataset import Progress as Progress
    from snnbench.dataset import SampleKeys as SampleKeys
    from snnbench.dataset import Samples as Samples
    from snnbench.errors import BackendError as BackendError
    from snnbench.errors import ContractError as ContractError
    from snnbench.errors import CorruptDataError as CorruptDataError
    from snnbench.errors import DiskFullError as DiskFullError
    from snnbench.errors import MissingDataError as MissingDataError
    from snnbench.errors import ParameterError as ParameterError
    from snnbench.errors import SnnbenchError as SnnbenchError
    from snnbench.errors import TrackingError as TrackingError
    from snnbench.errors import UsageError as UsageError
    from snnbench.files import cached_samples as cached_samples
    from snnbench.files import download as download
    from snnbench.files import folder_digest as folder_digest
    from snnbench.files import unpack as unpack
    from snnbench.files import verify_checksum as verify_checksum
    from snnbench.hooks import hookimpl as hookimpl
    from snnbench.report.figures import draw_raster as draw_raster
    from snnbench.rule import Calibration as Calibration
    from snnbench.rule import Context as Context
    from snnbench.rule import Deployed as Deployed
    from snnbench.rule import Learner as Learner
    from snnbench.rule import Reference as Reference
    from snnbench.rule import Rule as Rule
    from snnbench.rule import RuleInfo as RuleInfo
    from snnbench.rule import RuleParams as RuleParams
    from snnbench.rule import tunable as tunable
    from snnbench.sink import RunInfo as RunInfo
    from snnbench.sink import Sink as Sink
    from snnbench.types import Batch as Batch
    from snnbench.types import Events as Events
    from snnbench.types import Graph as Graph
    from snnbench.types import InputForm as InputForm
    from snnbench.types import Layer as Layer
    from snnbench.types import Network as Network
    from snnbench.types import Recorder as Recorder
    from snnbench.types import Result as Result
    from snnbench.types import Steps as Steps
    from snnbench.types import StepStats as StepStats
    from snnbench.types import Task as Task
    from snnbench.types import derive_seed as derive_seed
    from snnbench.types import digest as digest

_HOME = {
    "BackendError": "errors",
    "Batch": "types",
    "Calibration": "rule",
    "Context": "rule",
    "ContractError": "errors",
    "CorruptDataError": "errors",
    "Dataset": "dataset",
    "DatasetInfo": "dataset",
    "Deployed": "rule",
    "DiskFullError": "errors",
    "Encoding": "dataset",
    "EventSamples": "dataset",
    "Events": "types",
    "Graph": "types",
    "InputForm": "types",
    "Layer": "types",
    "Learner": "rule",
    "MissingDataError": "errors",
    "Network": "types",
    "ParameterError": "errors",
    "Progress": "dataset",
    "Recorder": "types",
    "Reference": "rule",
    "Result": "types",
    "Rule": "rule",
    "RuleInfo": "rule",
    "RuleParams": "rule",
    "RunInfo": "sink",
    "SampleKeys": "dataset",
    "Samples": "dataset",
    "Sink": "sink",
    "SnnbenchError": "errors",
    "StepStats": "types",
    "Steps": "types",
    "Task": "types",
    "TrackingError": "errors",
    "UsageError": "errors",
    "cached_samples": "files",
    "derive_seed": "types",
    "digest": "types",
    "download": "files",
    "folder_digest": "files",
    "draw_raster": "report.figures",
    "hookimpl": "hooks",
    "load_results": "api",
    "run": "api",
    "tunable": "rule",
    "unpack": "files",
    "verify_checksum": "files",
}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'snnbench' has no attribute {name!r}")
    return getattr(importlib.import_module(f"snnbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
