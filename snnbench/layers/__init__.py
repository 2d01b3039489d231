"""Building blocks that rules share: graph to time-major layers, initialisation, losses, fan-out, learners."""

from snnbench.layers.ann import AnalogLearner, AnalogNetwork, DeployedAnalog, time_average
from snnbench.layers.events import network_input, reads_events, sparse
from snnbench.layers.fan_out import fan_out, n_synapses
from snnbench.layers.initialisation import INITIALISATIONS, initialise
from snnbench.layers.learner import SCHEDULES, GradientLearner, Schedule, constant, cosine
from snnbench.layers.losses import (
    LOSS_DECODERS,
    LOSSES,
    count_cross_entropy,
    count_mse,
    max_membrane_cross_entropy,
    mean_membrane_cross_entropy,
    rate_cross_entropy,
    rate_mse,
)
from snnbench.layers.smoothing import Smoothable, in_double, weights_by_layer
from snnbench.layers.spiking import DeployedStack, LIFNeuron, LIFStack, Probe, declare_input
from snnbench.layers.synapses import Synapse, build_synapses
from snnbench.layers.trace import (
    BACKWARDS,
    LOGISTIC,
    Backward,
    DeployedTraces,
    TraceLearner,
    TraceNeuron,
    TraceSettings,
    TraceStack,
    euler_decay,
    trace_learner,
)
from snnbench.layers.trace_losses import default_pattern, target_trace, trace_count, trace_distance

__all__ = [
    "BACKWARDS",
    "INITIALISATIONS",
    "LOGISTIC",
    "LOSSES",
    "LOSS_DECODERS",
    "SCHEDULES",
    "AnalogLearner",
    "AnalogNetwork",
    "Backward",
    "DeployedAnalog",
    "DeployedStack",
    "DeployedTraces",
    "GradientLearner",
    "LIFNeuron",
    "LIFStack",
    "Probe",
    "Schedule",
    "Smoothable",
    "Synapse",
    "TraceLearner",
    "TraceNeuron",
    "TraceSettings",
    "TraceStack",
    "build_synapses",
    "constant",
    "cosine",
    "count_cross_entropy",
    "count_mse",
    "declare_input",
    "default_pattern",
    "euler_decay",
    "fan_out",
    "in_double",
    "initialise",
    "max_membrane_cross_entropy",
    "mean_membrane_cross_entropy",
    "n_synapses",
    "network_input",
    "rate_cross_entropy",
    "rate_mse",
    "reads_events",
    "sparse",
    "target_trace",
    "time_average",
    "trace_count",
    "trace_distance",
    "trace_learner",
    "weights_by_layer",
]
