"""The event-driven layer on CUDA: the matrix product, which no reading of events has been seen to beat on a GPU."""

from snnbench.kernels.event_linear.ref import event_linear, index_spikes

__all__ = ["event_linear", "index_spikes"]
