"""The recurrent LIF layer: against autograd through a plain loop, finite differences, hand cases, and ``lif``."""

import itertools
import json
import os
import subprocess
import sys

import pytest
import torch

from snnbench import BackendError, ParameterError
from snnbench.kernels import RESETS, SURROGATES, SpikeIndex, Surrogate, lif, recurrent_lif

DECAY, THRESHOLD = 0.8, 0.7
BACKENDS = ["ref", "cpu"]
PATHS = list(itertools.product(RESETS, [True, False]))
LOGISTIC = Surrogate("logistic", 0.2, peak=1.25)  # the derivative of sigmoid(x / 0.2)
OPTIONS = {"decay": DECAY, "threshold": THRESHOLD, "surrogate": LOGISTIC}


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def draw(n_steps=12, size=3, n=20, dtype=torch.float64):
    """A current and weights that make a third of the neurons fire, and a gradient at the spikes."""
    current = (0.2 + 0.6 * randn(n_steps, size, n)).to(dtype)
    weight = (0.8 * randn(n, n, seed=1) / n**0.5).to(dtype)
    return current.requires_grad_(), weight.requires_grad_(), randn(n_steps, size, n, seed=2, dtype=dtype)


def sixteenths(*shape, seed=0):
    return torch.randint(-16, 32, shape, generator=torch.Generator().manual_seed(seed)).double() / 16


def assert_close(ours, expected, tolerance=1e-12):
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(1, other.abs().max().item()))


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        p = torch.sigmoid(ctx.saved_tensors[0] / 0.2)
        return g * p * (1 - p) / 0.2


def plain_loop(current, weight, step, reset, *, detach):
    """The equations, step by step, differentiated by autograd: potentials and spikes."""
    u = s = torch.zeros_like(current[0])
    membrane, spikes = [], []
    for i in current.unbind():
        r = s.detach() if detach else s
        u = {
            "hard": DECAY * u * (1 - r),
            "soft": DECAY * (u - THRESHOLD * r),
            "soft-after-decay": DECAY * u - THRESHOLD * r,
            "none": DECAY * u,
        }[reset] + torch.nn.functional.linear(s, weight, None)
        u = u + i
        s = step(u - THRESHOLD)
        membrane.append(u)
        spikes.append(s)
    return torch.stack(membrane), torch.stack(spikes)


# --- the gradient ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_equals_autograd_through_a_plain_loop(reset, detach, backend):
    current, weight, g = draw()
    _, expected = plain_loop(current, weight, Step.apply, reset, detach=detach)
    spikes = recurrent_lif(current, weight, reset=reset, detach_reset=detach, backend=backend, **OPTIONS)
    assert torch.equal(spikes, expected)
    assert 0.2 < spikes.mean() < 0.7
    alone = lif(current, reset=reset, detach_reset=detach, **OPTIONS)
    assert (alone != spikes).float().mean() > 0.1  # the weights matter
    assert_close(torch.autograd.grad(spikes, [current, weight], g), torch.autograd.grad(expected, [current, weight], g))


def recursion(u, s, h, g, weight, reset, *, detach):
    """δ and ∂L/∂V as the kernel's docstring gives them, with the J of ``lif``'s."""
    attached = 0.0 if detach else 1.0
    jacobian = {
        "hard": DECAY * (1 - s - attached * u * h),
        "soft": DECAY * (1 - attached * THRESHOLD * h),
        "soft-after-decay": DECAY - attached * THRESHOLD * h,
        "none": DECAY * torch.ones_like(u),
    }[reset]
    delta = torch.zeros_like(u)
    later = torch.zeros_like(u[0])
    for t in reversed(range(len(u))):
        later = delta[t] = h[t] * (g[t] + later @ weight) + jacobian[t] * later
    return delta, torch.einsum("tbi,tbj->ij", delta[1:], s[:-1])


@pytest.mark.parametrize("reset", RESETS)
def test_the_recursion_is_the_derivative_of_the_smooth_network(reset):
    """With a smooth step instead of spikes there is a derivative to compare with: of every current, every weight."""

    def smooth(x):
        return torch.sigmoid(x / 0.2)

    def loss(current, weight):
        return (g * plain_loop(current, weight, smooth, reset, detach=True)[1]).sum()

    current, weight, g = (x.detach() for x in draw(n_steps=4, size=2, n=3))
    eps, differences = 1e-6, []
    for which in (0, 1):
        values = [current, weight]
        difference = torch.zeros_like(values[which])
        for place in itertools.product(*map(range, difference.shape)):
            shifted = []
            for sign in (1, -1):
                moved = [x.clone() for x in values]
                moved[which][place] += sign * eps
                shifted.append(loss(*moved))
            difference[place] = (shifted[0] - shifted[1]) / (2 * eps)
        differences.append(difference)
    u, s = plain_loop(current, weight, smooth, reset, detach=True)
    exact = recursion(u, s, s * (1 - s) / 0.2, g, weight, reset, detach=False)
    assert_close(exact, differences, tolerance=1e-8)
    if reset != "none":
        detached = recursion(u, s, s * (1 - s) / 0.2, g, weight, reset, detach=True)
        assert (detached[0] - differences[0]).abs().max() > 1e-2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_the_gradient_is_the_recursion_for_every_surrogate(reset, detach, name, backend):
    surrogate = Surrogate(name, 0.4, peak=1.5)
    current, weight, g = draw(n=9)
    u, s = plain_loop(current.detach(), weight.detach(), Step.apply, reset, detach=detach)
    expected = recursion(u, s, surrogate.derivative(u - THRESHOLD), g, weight.detach(), reset, detach=detach)
    options = {**OPTIONS, "surrogate": surrogate, "reset": reset, "detach_reset": detach}
    spikes = recurrent_lif(current, weight, **options, backend=backend)
    assert_close(torch.autograd.grad(spikes, [current, weight], g), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("learns", [(True, False), (False, True), (False, False)])
def test_what_does_not_learn_gets_no_gradient(learns, backend):
    current, weight, g = draw()
    options = {"reset": "soft", "detach_reset": False, "backend": backend, **OPTIONS}
    spikes = recurrent_lif(current, weight, **options)
    expected = torch.autograd.grad(spikes, [current, weight], g)
    leaves = [x.detach().requires_grad_(wanted) for x, wanted in zip((current, weight), learns, strict=True)]
    again = recurrent_lif(*leaves, **options)
    assert torch.equal(again, spikes)
    assert again.requires_grad == any(learns)
    if any(learns):
        again.backward(g)
    for leaf, gradient, wanted in zip(leaves, expected, learns, strict=True):
        assert torch.equal(leaf.grad, gradient) if wanted else leaf.grad is None


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_neuron_makes_another_fire_a_step_later(backend):
    # Rows are steps. The first neuron fires at once, u = 1.2; the second one silently has 0.3. Then the first one has
    # 0.5 (1.2 - 1) = 0.1, and the second one 0.5 · 0.3 + 0.4 + 0.7 = 1.25: it fires.
    current = torch.tensor([[1.2, 0.3], [0.0, 0.4]], dtype=torch.float64).reshape(2, 1, 2).requires_grad_()
    weight = torch.tensor([[0.0, 0.0], [0.7, 0.0]], dtype=torch.float64).requires_grad_()
    surrogate = Surrogate("rectangular", 1.0)  # 1 for potentials between 0.5 and 1.5
    spikes = recurrent_lif(
        current, weight, decay=0.5, reset="soft", detach_reset=True, surrogate=surrogate, backend=backend
    )
    assert spikes[:, 0].tolist() == [[1, 0], [0, 1]]
    spikes[1, 0, 1].backward()
    # Its spike depends on its current, on half its current before, and by 0.7 on the other one's spike.
    assert current.grad[:, 0].flatten().tolist() == pytest.approx([0.7, 0.5, 0, 1], abs=1e-15)
    assert weight.grad.flatten().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("reset", "attached"),
    # ∂u[1]/∂u[0] = decay ∂(1 - s) u/∂u + h w: 0.5 (-1.25) + 0.5; 0.5 (1 - 1) + 0.5; 0.5 - 1 + 0.5; 0.5 + 0.5
    [("hard", -0.125), ("soft", 0.5), ("soft-after-decay", 0.0), ("none", 1.0)],
)
def test_a_neuron_excites_itself(reset, attached, backend):
    # It fires with u[0] = 1.25; a step later the spike has reset it and adds 0.5.
    left = {"hard": 0.0, "soft": 0.125, "soft-after-decay": -0.375, "none": 0.625}[reset]
    current = torch.tensor([1.25, 0.5 - left], dtype=torch.float64).reshape(2, 1, 1).requires_grad_()
    weight = torch.full((1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    spikes = recurrent_lif(
        current,
        weight,
        decay=0.5,
        reset=reset,
        detach_reset=False,
        surrogate=Surrogate("rectangular", 1.0),
        backend=backend,
    )
    assert spikes.flatten().tolist() == [1, 1]  # u[1] = 1 is at the threshold
    spikes[1].backward(torch.ones(1, 1, dtype=torch.float64))
    assert current.grad.flatten().tolist() == [attached, 1]
    assert weight.grad.item() == 1


# --- other ways to the same ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_without_weights_it_is_lif(reset, detach, backend):
    current, weight, g = draw()
    options = {"reset": reset, "detach_reset": detach, "backend": backend, **OPTIONS}
    expected = lif(current, **options)
    spikes = recurrent_lif(current, torch.zeros_like(weight), **options)
    assert torch.equal(spikes, expected)
    assert_close(torch.autograd.grad(spikes, current, g), torch.autograd.grad(expected, current, g))


@pytest.mark.parametrize("n", [1, 3, 16, 17, 67])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_where_nothing_rounds_the_compiled_kernel_has_the_reference_s_bits(reset, detach, size, n):
    results = []
    for backend in BACKENDS:
        current, weight = sixteenths(4, size, n).requires_grad_(), (sixteenths(n, n, seed=1) / 4).requires_grad_()
        options = {"decay": 0.5, "threshold": 0.75, "surrogate": Surrogate("rectangular", 1.0), "backend": backend}
        spikes = recurrent_lif(current, weight, reset=reset, detach_reset=detach, **options)
        gradients = torch.autograd.grad(spikes, [current, weight], sixteenths(4, size, n, seed=2))
        results.append((spikes, *gradients))
    for ours, expected in zip(*results, strict=True):
        assert torch.equal(ours, expected)


@pytest.mark.parametrize("size", [4, 5])
def test_a_sample_has_the_same_bits_alone_and_among_others(size):
    options = {"reset": "soft", "detach_reset": False, "backend": "cpu", **OPTIONS}
    current, weight, g = draw(30, size, 50, torch.float32)
    spikes = recurrent_lif(current, weight, **options)
    (grad,) = torch.autograd.grad(spikes, current, g)
    for b in range(size):
        leaf = current.detach()[:, b : b + 1].requires_grad_()
        alone = recurrent_lif(leaf, weight, **options)
        assert torch.equal(alone, spikes[:, b : b + 1])
        assert torch.equal(torch.autograd.grad(alone, leaf, g[:, b : b + 1])[0], grad[:, b : b + 1])


def test_memory_layout_changes_no_bit():
    options = {"reset": "hard", "detach_reset": False, "backend": "cpu", **OPTIONS}
    current, weight, g = (x.detach() for x in draw(7, 3, 11, torch.float32))
    layouts = {
        "permuted": lambda x: x.transpose(0, 2).contiguous().transpose(0, 2),
        "with gaps": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
        "every second": lambda x: x.repeat_interleave(2, dim=0)[::2],
        "a part": lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]],
    }

    def run(current, weight, g):
        leaves = current.requires_grad_(), weight.requires_grad_()
        spikes = recurrent_lif(*leaves, **options)
        assert spikes.is_contiguous()
        return spikes.detach(), *torch.autograd.grad(spikes, leaves, g)

    expected = run(current, weight, g)
    for name, layout in layouts.items():
        got = run(layout(current), weight.detach().t().contiguous().t(), layout(g))
        assert all(map(torch.equal, got, expected)), name
    once, ones = current.detach()[:1], torch.ones(())
    for values, grad in ((once.expand(7, 3, 11), g), (once.expand(7, 3, 11), ones.expand(7, 3, 11))):
        got, plain = run(values, weight.detach(), grad), run(values.contiguous(), weight.detach(), grad.contiguous())
        assert all(map(torch.equal, got, plain))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 4, 3), (5, 0, 3), (5, 1, 1), (0, 2, 3), (4, 2, 0)])
def test_awkward_shapes(shape, backend):
    current, weight = torch.ones(shape, requires_grad=True), torch.zeros(shape[2], shape[2], requires_grad=True)
    index = SpikeIndex.empty(shape)
    spikes = recurrent_lif(current, weight, reset="hard", detach_reset=True, index=index, backend=backend, **OPTIONS)
    spikes.sum().backward()
    assert spikes.shape == current.grad.shape == shape
    assert weight.grad.shape == weight.shape
    assert spikes.eq(1).all()
    assert index.counts.eq(shape[2]).all()


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("learns", [True, False])
def test_the_index_says_who_fired(learns, backend):
    current, weight, _ = draw(9, 4, 40)
    current.requires_grad_(learns)
    index = SpikeIndex.empty(current.shape)
    options = {"reset": "soft", "detach_reset": True, "backend": backend, **OPTIONS}
    spikes = recurrent_lif(current, weight, index=index, **options)
    assert torch.equal(spikes, recurrent_lif(current, weight, **options))
    assert torch.equal(index.counts, spikes.sum(-1).int())
    for fired, neurons, count in zip(
        spikes.flatten(0, 1), index.neurons.flatten(0, 1), index.counts.flatten(), strict=True
    ):
        assert neurons[:count].tolist() == fired.nonzero().flatten().tolist()


def test_an_index_that_was_written_to_since_is_refused():
    current, weight, g = draw()
    index = SpikeIndex.empty(current.shape)
    options = {"reset": "soft", "detach_reset": True, "backend": "cpu", **OPTIONS}
    spikes = recurrent_lif(current, weight, index=index, **options)
    recurrent_lif(-current, weight, index=index, **options)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.backward(g)


@pytest.mark.parametrize(("reset", "detach"), PATHS)
def test_overwriting_changes_no_bit_and_is_seen(reset, detach):
    options = {"reset": reset, "detach_reset": detach, "backend": "cpu", **OPTIONS}
    x, weight, g = draw(dtype=torch.float32)
    results = []
    for overwrite in (False, True):
        current = x * 2
        before, version = current.detach().clone(), current._version
        spikes = recurrent_lif(current, weight, overwrite=overwrite, **options)
        results.append((spikes, *torch.autograd.grad(spikes, [x, weight], g)))
        assert torch.equal(current, before) == (not overwrite)
        assert (current._version > version) == overwrite
    assert all(map(torch.equal, *results))


def test_an_expanded_current_is_not_overwritten():
    once = torch.rand(1, 3, 20, requires_grad=True)
    before = once.detach().clone()
    recurrent_lif(
        once.expand(6, 3, 20), torch.eye(20), reset="hard", detach_reset=True, overwrite=True, backend="cpu", **OPTIONS
    )
    assert torch.equal(once, before)


# --- threads ---------------------------------------------------------------------------------------------------------

BITS = """
import json, torch
from snnbench.kernels import Surrogate, recurrent_lif

different = []
for size, n in ((9, 200), (64, 33), (1, 700)):
    current, weight = 0.2 + 0.6 * torch.randn(120, size, n), torch.randn(n, n) / n**0.5
    g, results = torch.randn(current.shape), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        leaves = current.clone().requires_grad_(), weight.clone().requires_grad_()
        spikes = recurrent_lif(
            *leaves, decay=0.9, reset="hard", detach_reset=False, surrogate=Surrogate("arctan", 0.3), backend="cpu"
        )
        results.append((spikes, *torch.autograd.grad(spikes, leaves, g)))
    different += [[size, n, k] for k, (a, b) in enumerate(zip(*results)) if not torch.equal(a, b)]
print(json.dumps(different))
"""


def test_the_number_of_threads_changes_no_bit():
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", BITS]
    process = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(process.stdout) == []


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_names_and_shapes_that_are_not():
    current, weight, _ = draw()
    options = {"detach_reset": True, **OPTIONS}
    with pytest.raises(ParameterError, match="unknown reset 'sof'"):
        recurrent_lif(current, weight, reset="sof", **options)
    with pytest.raises(BackendError, match="recurrent_lif"):
        recurrent_lif(current, weight, reset="soft", backend="tpu", **options)
    for one, other in ((current, weight[:, :-1]), (current, weight[:-1, :-1]), (current[0], weight)):
        with pytest.raises(ParameterError, match="do not go together"):
            recurrent_lif(one, other, reset="soft", **options)
