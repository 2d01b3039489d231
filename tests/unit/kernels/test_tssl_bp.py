"""TSSL-BP: against its equations written out over pairs of steps, hand cases, and what its variants leave out."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from snnbench import BackendError, ParameterError
from snnbench.kernels import Surrogate, exponential_filter, synaptic_lif, tssl_bp

TAU_M, TAU_S = 5.0, 3.0
ALPHA, DECAY = 1 - 1 / TAU_S, 1 - 1 / TAU_M
BACKENDS = ["ref", "cpu"]


def surrogate(u, width=0.2):
    q = math.exp(min(max((1 - u) / width, -8), 8))
    return q / (width * (1 + q) ** 2)


def simulate(filtered):
    """Potentials, spikes, rises and traces of one neuron."""
    v = a = 0.0
    steps = []
    for i in filtered:
        u = DECAY * v + i
        s = u >= 1
        a = ALPHA * a + s / TAU_S
        steps.append((u, s, u - v, a))
        v = 0.0 if s else u
    return tuple(zip(*steps, strict=True))


def literal(filtered, e, *, cap=8.0, paper=False):
    """δ[m] = Σ_k e[k] ∂a[k]/∂u[m], each derivative from its definition: spike times move with potentials.

    At a spike, a later potential is moved by this spike's reset; between spikes, the next one is moved by the leak.
    """
    u, s, rise, a = simulate(filtered)
    n = len(u)

    def derivative(k, m):
        """∂a[k]/∂u[m]"""
        following = next((p for p in range(m + 1, k + 1) if s[p]), None)
        beyond = 0.0 if following is None else derivative(k, following)
        if not s[m]:
            return 0.0 if following is None else DECAY ** (following - m) * beyond
        moved = 0.0 if following is None else (u[m] / TAU_M) * DECAY ** (following - m - 1) * beyond
        return min(1 / rise[m], cap) * ((1 / TAU_S) * ALPHA ** (k - m) + moved)

    deltas = []
    for m in range(n):
        through_time = sum(e[k] * derivative(k, m) for k in range(m, n))
        if paper:
            deltas.append(through_time if s[m] else 0.0)
        elif a[m] >= 1 / (4 * TAU_S):
            deltas.append(through_time)
        else:
            deltas.append(surrogate(u[m]) * adjoint(e)[m])
    return deltas


def adjoint(e):
    """G[m] = Σ_k (1 - α) α^(k - m) e[k]"""
    return [sum((1 / TAU_S) * ALPHA ** (k - m) * e[k] for k in range(m, len(e))) for m in range(len(e))]


def delta_of(filtered, e, **options):
    """δ[t] of neurons whose filtered currents are given, ``[T]`` or ``[T, N]``, for gradients e at their traces."""
    filtered, e = (torch.as_tensor(x, dtype=torch.float64) for x in (filtered, e))
    leaf = filtered.reshape(len(filtered), -1).clone().requires_grad_()
    before = torch.cat([torch.zeros_like(leaf[:1]), leaf[:-1]])
    current = (leaf - ALPHA * before) * TAU_S
    spikes = tssl_bp(current, trace_decay=ALPHA, decay=DECAY, **options)
    trace = exponential_filter(spikes, decay=ALPHA, gain=1 - ALPHA)
    trace.backward(e.reshape(leaf.shape))
    return leaf.grad.reshape(filtered.shape)


def random_case(n_steps, n=200, seed=0):
    generator = torch.Generator().manual_seed(seed)
    filtered = 0.4 + 0.7 * torch.randn(n_steps, n, generator=generator, dtype=torch.float64)
    return filtered, torch.randn(n_steps, n, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_steps", [1, 2, 5, 12])
def test_recursion_is_the_sum_over_pairs_of_steps(n_steps, backend):
    filtered, e = random_case(n_steps)
    expected = [literal(f, g) for f, g in zip(filtered.T.tolist(), e.T.tolist(), strict=True)]
    ours = delta_of(filtered, e, backend=backend)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64).T, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_paper_s_variant_where_enough_neurons_fire(backend):
    filtered, e = random_case(12, seed=1)
    expected = [literal(f, g, cap=10.0, paper=True) for f, g in zip(filtered.T.tolist(), e.T.tolist(), strict=True)]
    ours = delta_of(filtered, e, variant="paper", backend=backend)
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64).T, rtol=0, atol=1e-12)


# --- hand cases, e = 1 -----------------------------------------------------------------------------------------------

CASES = {
    "fires, is silent, fires": ([1.2, 0.5, 0.9], [0.653086, 0.333333, 0.416667]),
    "never fires: no leak path": ([0.9, 0.1], [0.652788, 0.342501]),
    "silent, then fires: what stands in does not enter the recursion": ([0.5, 0.9], [0.194733, 0.416667]),
    "a rise of 0.08: the slope is 8": ([0.95, 0.27], [0.683706, 2.66667]),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("filtered", "expected"), CASES.values(), ids=CASES)
def test_hand_cases(filtered, expected, backend):
    ours = delta_of(filtered, [1.0] * len(filtered), backend=backend)
    assert ours.tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_paper_s_variant_by_hand(backend):
    # a rise of 0.08 gives a slope of 10 there, the silent step before it nothing; half of all steps fire
    ours = delta_of([0.95, 0.27], [1.0, 1.0], variant="paper", backend=backend)
    assert ours.tolist() == pytest.approx([0, 10 / 3])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("n_spikes", "warm_up"), [(0, True), (2, True), (3, False)])
def test_the_paper_s_variant_uses_the_surrogate_while_few_fire(n_spikes, warm_up, backend):
    filtered = torch.full((2, 10), 0.4, dtype=torch.float64)
    filtered[0, :n_spikes] = 1.5
    e = torch.ones(2, 10)
    ours = delta_of(filtered, e, variant="paper", backend=backend)
    only = delta_of(filtered, e, variant="surrogate-only", backend=backend)
    assert torch.equal(ours, only) == warm_up


# --- properties ------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(-2, 3), min_size=1, max_size=12))
def test_a_spike_is_a_rise_and_leaves_a_trace(filtered):
    _, s, rise, a = simulate(filtered)
    assert all(r > 0 and trace >= 1 / TAU_S for fired, r, trace in zip(s, rise, a, strict=True) if fired)


@pytest.mark.parametrize("variant", ["released", "paper", "surrogate-only"])
def test_linear_in_the_gradient(variant):
    filtered, e = random_case(9, seed=2)
    torch.testing.assert_close(
        delta_of(filtered, -3 * e, variant=variant), -3 * delta_of(filtered, e, variant=variant), rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_surrogate_only_is_the_surrogate_without_time_but_for_its_floor(backend):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8, 5, 40, generator=generator, dtype=torch.float64).requires_grad_()
    g = torch.randn(8, 5, 40, generator=generator, dtype=torch.float64)
    neuron = {"trace_decay": ALPHA, "decay": DECAY, "backend": backend}
    spatial = synaptic_lif(x, reset="hard", gradient="spatial", surrogate=Surrogate("logistic", 0.2, 1.25), **neuron)
    only = tssl_bp(x, variant="surrogate-only", **neuron)
    assert torch.equal(spatial, only)
    difference = torch.autograd.grad(only, x, g)[0] - torch.autograd.grad(spatial, x, g)[0]
    floor = math.exp(-8) / (0.2 * (1 + math.exp(-8)) ** 2)
    assert 0 < difference.abs().max() <= floor * g.abs().sum(0).max()


@pytest.mark.parametrize("variant", ["released", "paper", "surrogate-only"])
def test_fires_as_the_neuron_with_hard_reset(variant):
    x = torch.randn(9, 4, 30, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    options = {"trace_decay": ALPHA, "decay": DECAY, "threshold": 0.6}
    expected = synaptic_lif(x, reset="hard", gradient="detached", surrogate=Surrogate.unit_area("arctan"), **options)
    for backend in BACKENDS:
        assert torch.equal(tssl_bp(x, variant=variant, backend=backend, **options), expected)
        assert torch.equal(tssl_bp(x.clone().requires_grad_(), variant=variant, backend=backend, **options), expected)


def test_far_potentials_have_finite_gradients():
    filtered = torch.tensor([[1e30, -1e30, 1e4, -1e4, 1.0]] * 3, dtype=torch.float64)
    for variant in ("released", "paper", "surrogate-only"):
        assert delta_of(filtered, torch.ones(3, 5), variant=variant).isfinite().all()


def test_variants_and_backends_that_are_not():
    with pytest.raises(ParameterError, match="unknown variant of TSSL-BP 'relaesed'") as error:
        tssl_bp(torch.ones(2, 1), trace_decay=ALPHA, decay=DECAY, variant="relaesed")
    assert "released" in error.value.hint
    with pytest.raises(BackendError, match="tssl_bp"):
        tssl_bp(torch.ones(2, 1), trace_decay=ALPHA, decay=DECAY, backend="tpu")
