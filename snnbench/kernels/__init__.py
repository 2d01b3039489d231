"""Neuron dynamics, one folder a kernel: torch tensors in and out, time-major ``[T, B, *shape]`` or lists of events."""

from snnbench.kernels.alpha import AlphaKernel
from snnbench.kernels.alpha_filter import alpha_filter
from snnbench.kernels.axonal_delay import axonal_delay
from snnbench.kernels.backends import BACKENDS, default_backend
from snnbench.kernels.event_linear import event_linear, index_spikes
from snnbench.kernels.exponential_filter import exponential_filter
from snnbench.kernels.herding import (
    HerdingRun,
    HerdingStats,
    HerdingUpdate,
    herding,
    herding_forward,
    herding_learn,
    relu_learn,
    split_weights,
)
from snnbench.kernels.integrate_and_fire import integrate_and_fire
from snnbench.kernels.lif import RESETS, Reset, lif
from snnbench.kernels.pool import pool
from snnbench.kernels.recordings import gather_recordings, index_events
from snnbench.kernels.recurrent_lif import recurrent_lif
from snnbench.kernels.smooth import smooth_lif, smooth_srm
from snnbench.kernels.spike_index import SpikeIndex
from snnbench.kernels.spike_times import in_order, spike_times
from snnbench.kernels.srm import srm
from snnbench.kernels.surrogate import SURROGATES, Surrogate
from snnbench.kernels.synaptic_lif import synaptic_lif
from snnbench.kernels.tssl_bp import tssl_bp

__all__ = [
    "BACKENDS",
    "RESETS",
    "SURROGATES",
    "AlphaKernel",
    "HerdingRun",
    "HerdingStats",
    "HerdingUpdate",
    "Reset",
    "SpikeIndex",
    "Surrogate",
    "alpha_filter",
    "axonal_delay",
    "default_backend",
    "event_linear",
    "exponential_filter",
    "gather_recordings",
    "herding",
    "herding_forward",
    "herding_learn",
    "in_order",
    "index_events",
    "index_spikes",
    "integrate_and_fire",
    "lif",
    "pool",
    "recurrent_lif",
    "relu_learn",
    "smooth_lif",
    "smooth_srm",
    "spike_times",
    "split_weights",
    "srm",
    "synaptic_lif",
    "tssl_bp",
]
