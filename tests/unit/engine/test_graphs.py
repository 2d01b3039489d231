"""Captured training steps: on a CUDA device, weights and losses are those of the steps as they are."""

import pytest
import torch

from snnbench import Batch, Network
from snnbench.engine.graphs import EAGER_STEPS, CapturedSteps
from snnbench.kernels import Surrogate
from snnbench.layers import GradientLearner, LIFNeuron, LIFStack, build_synapses, cosine, count_cross_entropy

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


class Classifier(GradientLearner):
    def loss(self, batch):
        return count_cross_entropy(self.module(batch), batch.labels)

    def deploy(self, calibration):
        raise NotImplementedError


def make(backend):
    graph = Network("30").graph((20,), 4)
    synapses = build_synapses(graph, generator=torch.Generator().manual_seed(1), bias=True, gain=3.0, backend="ref")
    neuron = LIFNeuron(decay=0.8, surrogate=Surrogate.unit_area("arctan"))
    stack = LIFStack(graph, synapses, neuron=neuron, decoder="count", backend=backend).cuda()
    optimizer = torch.optim.AdamW(stack.parameters(), lr=torch.tensor(1e-2, device="cuda"), fused=True, capturable=True)
    return Classifier(stack, optimizer, schedule=cosine)


def batches(n):
    generator = torch.Generator().manual_seed(2)
    for i in range(n):
        size = 5 if i % 4 == 3 else 8
        spikes = (torch.rand(6, size, 20, generator=generator) < 0.3).float().cuda()
        yield Batch(spikes, size, 6, 1.0, torch.randint(4, (size,), generator=generator).cuda())


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["ref", "cuda"])
def test_captured_steps_are_the_steps(backend):
    n = 8 * (EAGER_STEPS + 2)
    losses, weights = [], []
    for captured in (False, True):
        learner = make(backend)
        step = CapturedSteps(learner, torch.device("cuda")).train_step if captured else learner.train_step
        losses.append(torch.stack([step(batch, i / n).loss for i, batch in enumerate(batches(n))]))
        weights.append([weight.detach().clone() for weight in learner.module.parameters()])
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)
    for ours, expected in zip(*weights, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)
