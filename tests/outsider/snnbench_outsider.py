"""Direct feedback alignment, as a plugin in a package of its own."""

from math import exp

import torch
from snnbench import Rule, RuleInfo, RuleParams, StepStats, hookimpl, tunable
from snnbench.kernels import Surrogate
from snnbench.layers import DeployedStack, LIFNeuron, LIFStack, build_synapses
from torch.nn.functional import one_hot

SNNBENCH_API = (1, 0)


class RandomFeedback(Rule):
    """The output's error e reaches every layer through fixed random weights B, and the rates r before it do the rest.

    ΔW = lr · (e B)ᵀ r: no backward pass, and all layers learn at once.
    """

    info = RuleInfo(
        name="random-feedback",
        summary="direct feedback alignment on firing rates",
        encodings=("direct", "rate", "integrate"),
        decoders=("count",),
        paper="Nøkland: Direct feedback alignment provides learning in deep neural networks. NeurIPS 2016",
        url="https://arxiv.org/abs/1609.01596",
    )

    class Params(RuleParams):
        lr: float = tunable(0.1, low=1e-3, high=1.0, log=True)
        tau_mem_ms: float = 5.0

    def skip(self, task, network):
        return None if all(layer.kind == "dense" for layer in self.graph(task, network)) else "takes dense layers only"

    def build(self, network, task, params, context):
        graph, generator = self.graph(task, network), context.generator("init")
        synapses = build_synapses(graph, generator=generator, bias=False, backend=context.backend)
        neuron = LIFNeuron(decay=exp(-task.dt_ms / params.tau_mem_ms), surrogate=Surrogate.unit_area("arctan"))
        stack = LIFStack(graph, synapses, neuron=neuron, decoder="count", backend=context.backend)
        feedback = [torch.randn(task.n_classes, layer.n_out, generator=generator) for layer in graph]
        feedback[-1] = torch.eye(task.n_classes)  # the output's neurons get their own errors
        return RandomFeedbackLearner(stack.to(context.device), [b.to(context.device) for b in feedback], params.lr)


class RandomFeedbackLearner:
    def __init__(self, stack, feedback, lr):
        self.stack, self.feedback, self.lr = stack, feedback, lr
        self.state_dict, self.load_state_dict = stack.state_dict, stack.load_state_dict  # only weights ever change

    @torch.no_grad()
    def train_step(self, batch, progress):
        rates = [batch.dense.mean(0).flatten(1)]  # of the input, then of each layer: [B, n]
        self.stack(batch, lambda layer, spikes: rates.append(spikes.mean(0)))
        error = one_hot(batch.labels, rates[-1].shape[1]) - rates[-1]
        for synapse, before, feedback in zip(self.stack.synapses, rates, self.feedback, strict=False):
            synapse.weight += self.lr / batch.size * (error @ feedback).T @ before
        return StepStats(loss=error.square().mean(), samples=batch.size)

    def deploy(self, calibration):
        return DeployedStack(self.stack)  # a frozen copy, which hands its spikes to the harness


@hookimpl
def snnbench_rules():
    return [RandomFeedback]
