"""Spike times and their gradients against cases solved by hand, finite differences and a simulation with a clock."""

import inspect
import os
import subprocess
import sys
from importlib import import_module
from math import exp, inf, log, nan

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from snnbench import BackendError, Events, ParameterError
from snnbench.kernels import in_order, spike_times

HOST_BACKENDS = ("ref", "cpu")
TWICE, EQUAL = {"tau_mem_ms": 2.0, "tau_syn_ms": 1.0}, {"tau_mem_ms": 1.0, "tau_syn_ms": 1.0}
RATIOS = {"twice": TWICE, "equal": EQUAL}


@pytest.fixture(params=HOST_BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(params=RATIOS)
def taus(request):
    return RATIOS[request.param]


def events_of(*samples, dtype=torch.float64):
    """Events from lists of (time, input), a list a sample."""
    pairs = [sorted(sample, key=lambda pair: pair[0]) for sample in samples]
    times = torch.tensor([time for sample in pairs for time, _ in sample], dtype=dtype)
    index = torch.tensor([index for sample in pairs for _, index in sample], dtype=torch.int64)
    return Events(times, index, torch.tensor([0, *map(len, pairs)]).cumsum(0))


def run(events, weight, **options):
    """Times, truncated neurons, and the leaves of the gradient."""
    options = {"reset": options["threshold"], "max_spikes": 8, "duration_ms": 100.0, **TWICE, **options}
    times, weight = events.times_ms.detach().requires_grad_(), weight.detach().requires_grad_()
    found, truncated = spike_times(Events(times, events.index, events.offsets), weight, **options)
    return found, truncated, times, weight


def gradients_of_spikes(found, times, weight):
    """Gradient of every spike of the one neuron: of the weights, and of the input times."""
    spikes = found[found.isfinite()]
    each = [torch.autograd.grad(t, (weight, times), retain_graph=True) for t in spikes]
    return [(of_weight[:, 0].tolist(), of_times.tolist()) for of_weight, of_times in each]


def one_neuron(inputs, weights, theta, backend, taus=TWICE, dtheta=None, **options):
    """One sample, one neuron, a potential in the physical unit of theta; its spikes and their gradients."""
    tau = taus["tau_mem_ms"]
    found, truncated, *leaves = run(
        events_of([(time, i) for i, time in enumerate(inputs)]),
        torch.tensor(weights, dtype=torch.float64)[:, None],
        **{**taus, "threshold": theta / tau, "reset": (theta if dtheta is None else dtheta) / tau, **options},
        backend=backend,
    )
    assert found.shape[0] == found.shape[2] == 1
    return found[found.isfinite()].tolist(), gradients_of_spikes(found, *leaves), int(truncated)


def approx(values, digits=10):
    return pytest.approx(values, rel=0, abs=0.6 * 10.0**-digits)


# --- one neuron, by hand ---------------------------------------------------------------------------------------------


def test_a_single_input_that_has_a_rational_solution(backend):
    (t,), (gradient,), _ = one_neuron([0.0], [2.25], 1.0, backend)
    assert t == pytest.approx(2 * log(1.5), rel=1e-14)
    assert gradient == (pytest.approx([-8 / 9]), pytest.approx([1.0]))


def test_a_response_that_just_reaches_the_threshold(backend, taus):
    peak = exp(-1) if taus is EQUAL else 1 / 4
    theta = 0.5 * taus["tau_mem_ms"]
    assert one_neuron([0.0], [0.5 / peak * (1 - 5e-4)], theta, backend, taus)[0] == []
    (t,), _, _ = one_neuron([0.0], [0.5 / peak * (1 + 1e-12)], theta, backend, taus)
    assert t == pytest.approx(1.0 if taus is EQUAL else 2 * log(2), abs=1e-5)


def test_at_the_tangent_itself_the_gradient_is_a_number(backend):
    (t,), ((of_weight, _),), _ = one_neuron([0.0], [2.0], 1.0, backend)
    assert t == pytest.approx(2 * log(2))
    assert -inf < of_weight[0] < -1e10


FULL_RESETS = [0.1924749802, 0.4345999273, 0.7636699304, 1.2948608024]
SMALL_RESETS = [0.1924749802, 0.3332783948, 0.4997628194, 0.7042858775, 0.9719241513, 1.3706385991]


@pytest.mark.parametrize(("dtheta", "expected"), [(1.0, FULL_RESETS), (0.6, SMALL_RESETS)])
def test_a_burst(backend, dtheta, expected):
    spikes, gradients, truncated = one_neuron([0.0], [6.0], 1.0, backend, dtheta=dtheta)
    assert spikes == approx(expected)
    assert truncated == 0
    assert [of_times for _, of_times in gradients] == [approx([1.0], 12)] * len(expected)


def test_the_gradients_of_a_burst(backend):
    _, gradients, _ = one_neuron([0.0], [6.0], 1.0, backend)
    assert [of_weight for (of_weight,), _ in gradients] == approx([-0.0374575, -0.0977575, -0.2129389, -0.5448734], 7)


@pytest.mark.parametrize("max_spikes", [1, 2, 3, 4, 5])
def test_a_full_buffer_is_told_and_ends_the_neuron(backend, max_spikes):
    spikes, gradients, truncated = one_neuron([0.0], [6.0], 1.0, backend, max_spikes=max_spikes)
    assert spikes == approx(FULL_RESETS[:max_spikes])
    assert len(gradients) == len(spikes)
    assert truncated == (max_spikes < 4)
    later, _, told = one_neuron([0.0, 20.0], [6.0, 6.0], 1.0, backend, max_spikes=max_spikes)
    assert told == 1
    assert later[:4] == approx(FULL_RESETS[:max_spikes])
    assert len(later) == max_spikes  # at the second input the neuron had ended, or had room for one spike more


def test_two_inputs(backend):
    (t,), ((of_weight, of_times),), _ = one_neuron([0.0, 0.5], [1.5, 1.5], 1.0, backend)
    assert t == approx(0.7825184645)
    assert of_weight == approx([-0.3325758, -0.1737392], 7)
    assert of_times == approx([0.2714747, 0.7285253], 7)


def test_inhibition_in_time(backend):
    assert one_neuron([0.0, 0.3], [2.25, -2.0], 1.0, backend)[0] == []


@pytest.mark.parametrize(
    ("inputs", "weights", "expected", "of_weight", "of_times"),
    [
        ([0.0], [4.0], 0.3574029562, [-0.1390463], [1.0]),
        ([0.0, 0.4], [2.0, 3.0], 0.5419842283, [-0.1139566, -0.0445359], [0.1926031, 0.8073969]),
        ([0.15, 0.9, 1.3], [1.5, -0.4, 3.0], 1.5727301876, None, None),
    ],
)
def test_equal_time_constants(backend, inputs, weights, expected, of_weight, of_times):
    (t,), (gradient,), _ = one_neuron(inputs, weights, 1.0, backend, EQUAL, max_spikes=1)
    assert t == approx(expected)
    assert of_weight is None or gradient == (approx(of_weight, 7), approx(of_times, 7))


@pytest.mark.parametrize("late", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("share", [1e-13, 1e-9, 1e-6, 1e-4, 1e-2, 1.0, 1e3])
def test_lambert_s_equation_holds_from_the_branch_point_on(backend, share, late):
    weight = exp(1) * (1 + share)
    (t,), _, _ = one_neuron([late], [weight], 1.0, backend, EQUAL, max_spikes=1, duration_ms=2e6)
    sigma = t - late
    assert 0 < sigma <= 1
    assert weight * sigma * exp(-sigma) == pytest.approx(1.0, rel=1e-14 + 4e-16 * late / sigma)


def test_the_times_that_evspikesim_prints(backend):
    """In seconds, in single precision. Its kernel has unit amplitude: its theta is the threshold here."""
    events = events_of([(1000.0, 0), (1200.0, 1), (1500.0, 1)])
    weight = torch.tensor([[1, 0.2], [-0.1, 0.8], [0.5, 0.4]], dtype=torch.float64).T
    taus = {"tau_mem_ms": 40.0, "tau_syn_ms": 20.0}
    found, *_ = run(events, weight, threshold=0.1, duration_ms=2000.0, **taus, backend=backend)
    seconds = [train[train.isfinite()] / 1000 for train in found[0].T]
    expected = [
        [1.0047829, 1.0112512, 1.0215546],
        [1.2063813, 1.2163547, 1.506313, 1.5162327],
        [1.0129402, 1.2233235, 1.5267321],
    ]
    assert [train.tolist() for train in seconds] == [pytest.approx(train, rel=0, abs=2e-7) for train in expected]


@pytest.mark.parametrize("weight", [-5.0, 5.0])
def test_an_input_at_the_time_of_a_spike_comes_after_it(backend, weight):
    when = one_neuron([0.0], [2.25], 1.0, backend)[0][0]
    (t, *_), ((of_weight, of_times), *_), _ = one_neuron([0.0, when], [2.25, weight], 1.0, backend)
    assert t == when
    assert of_weight == [pytest.approx(-8 / 9), 0.0]
    assert of_times == [pytest.approx(1.0), 0.0]


def test_the_last_moment_counts_and_what_comes_later_does_not(backend):
    when = one_neuron([0.0], [2.25], 1.0, backend)[0][0]
    assert one_neuron([0.0], [2.25], 1.0, backend, duration_ms=when)[0] == [when]
    assert one_neuron([0.0], [2.25], 1.0, backend, duration_ms=np.nextafter(when, 0))[0] == []
    for late in (when, 3.0):
        spikes, ((of_weight, of_times),), _ = one_neuron([0.0, late], [2.25, 9.0], 1.0, backend, duration_ms=when)
        assert spikes == [when]
        assert of_weight[1] == of_times[1] == 0


def test_a_small_slope_is_replaced(backend, taus):
    tau = taus["tau_mem_ms"]
    (t,), ((exact_w, exact_t),), _ = one_neuron([0.0, 0.5], [1.6, 1.6], 1.0, backend, taus, max_spikes=1)
    v = sum(1.6 * exp(-(t - time)) for time in (0.0, 0.5)) - 1.0 / tau
    _, ((of_weight, of_times),), _ = one_neuron(
        [0.0, 0.5], [1.6, 1.6], 1.0, backend, taus, max_spikes=1, min_slope=2 * v
    )
    assert of_weight == pytest.approx([value / 2 for value in exact_w])
    assert of_times == pytest.approx([value / 2 for value in exact_t])
    same = one_neuron([0.0, 0.5], [1.6, 1.6], 1.0, backend, taus, max_spikes=1, min_slope=v / 2)
    assert same[1] == [(pytest.approx(exact_w), pytest.approx(exact_t))]


# --- shapes and edges ------------------------------------------------------------------------------------------------


def test_samples_without_events_and_silent_neurons(backend):
    events = events_of([], [(0.0, 0)], [], [(1.0, 0), (1.0, 1)], [])
    weight = torch.tensor([[2.25, 0.1], [0.0, 0.1]], dtype=torch.float64)
    found, truncated, times, weight = run(events, weight, threshold=0.5, max_spikes=3, backend=backend)
    assert found.shape == (5, 3, 2)
    assert found.isfinite().nonzero().tolist() == [[1, 0, 0], [3, 0, 0]]
    assert truncated.tolist() == [0] * 5
    assert truncated.dtype == torch.int64
    found.backward(torch.where(found.isfinite(), 1.0, nan))  # what arrives where there is no spike is ignored
    torch.testing.assert_close(weight.grad[0, 0], torch.tensor(-8 / 9 * 2, dtype=torch.float64))
    assert weight.grad[0, 1] == weight.grad[1, 1] == 0
    torch.testing.assert_close(times.grad, torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize("samples", [[], [[]], [[], []]], ids=len)
def test_no_event_at_all(backend, samples):
    found, truncated, times, weight = run(events_of(*samples), torch.ones(3, 5), threshold=1.0, backend=backend)
    assert found.shape == (len(samples), 8, 5)
    assert truncated.tolist() == [0] * len(samples)
    assert not found.isfinite().any()
    of_weight, of_times = torch.autograd.grad(found, (weight, times), torch.ones_like(found))
    assert not of_weight.any()
    assert of_times.shape == times.shape


def test_no_neuron(backend):
    found, truncated, *_ = run(events_of([(0.0, 0)]), torch.ones(3, 0), threshold=1.0, backend=backend)
    assert found.shape == (1, 8, 0)
    assert truncated.tolist() == [0]


def test_without_gradients(backend):
    events, weight = events_of([(0.0, 0)]), torch.full((1, 2), 2.25, dtype=torch.float64)
    found, *_ = spike_times(
        events, weight, **TWICE, threshold=0.5, reset=0.5, max_spikes=1, duration_ms=9.0, backend=backend
    )
    assert not found.requires_grad
    of_weight = weight.requires_grad_()
    found, *_ = spike_times(
        events, of_weight, **TWICE, threshold=0.5, reset=0.5, max_spikes=1, duration_ms=9.0, backend=backend
    )
    torch.testing.assert_close(torch.autograd.grad(found.sum(), of_weight)[0], torch.full_like(weight, -8 / 9))


def test_weights_and_events_in_any_layout(backend):
    events, weight = net(0, 40)
    gapped = Events(*(x.repeat_interleave(2)[::2] for x in (events.times_ms, events.index, events.offsets)))
    given = ((events, weight), (gapped, weight.T.contiguous().T))
    results = [run(*arguments, **OPTIONS, backend=backend) for arguments in given]
    gradients = [torch.autograd.grad(found[found.isfinite()].sum(), leaves) for found, _, *leaves in results]
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_implementations_have_one_signature():
    ref, cpu, cuda = (import_module(f"snnbench.kernels.spike_times.{name}") for name in ("ref", "cpu", "cuda"))
    for name in ("spike_times", "in_order"):
        signatures = {str(inspect.signature(getattr(module, name))) for module in (ref, cpu, cuda)}
        assert len(signatures) == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tau_mem_ms": 3.0}, "no closed form"),
        ({"threshold": 0.0}, "threshold"),
        ({"reset": -1.0}, "reset"),
        ({"max_spikes": 0}, "max_spikes"),
        ({"duration_ms": 0.0}, "duration_ms"),
        ({"min_slope": -1.0}, "min_slope"),
        ({"tau_mem_ms": nan, "tau_syn_ms": nan}, "tau_mem_ms"),
    ],
)
def test_what_has_no_meaning_is_an_error(wrong, said):
    options = {"threshold": 1.0, "reset": 1.0, "max_spikes": 1, "duration_ms": 1.0, **TWICE, **wrong}
    with pytest.raises(ParameterError, match=said):
        spike_times(events_of([(0.0, 0)]), torch.ones(1, 1), **options)


def test_signed_events_are_refused():
    events = Events(torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.tensor([0, 1]), sign=torch.ones(1))
    with pytest.raises(ParameterError, match="sign"):
        spike_times(events, torch.ones(1, 1), **TWICE, threshold=1.0, reset=1.0, max_spikes=1, duration_ms=1.0)


def test_a_backend_that_there_is_not():
    with pytest.raises(BackendError, match="no backend"):
        run(events_of([(0.0, 0)]), torch.ones(1, 1), threshold=1.0, backend="abacus")
    with pytest.raises(BackendError, match="does not take"):
        run(events_of([(0.0, 0)]), torch.ones(1, 1).half(), threshold=1.0, backend="cpu")


# --- random networks -------------------------------------------------------------------------------------------------

OPTIONS = {"threshold": 0.15, "reset": 0.15, "max_spikes": 6, "duration_ms": 4.0}


def net(seed, n_out, n_in=12, n_samples=3, n_events=24, dtype=torch.float64):
    """Events of several per input, and weights with which neurons fire a few times."""
    generator = torch.Generator().manual_seed(seed)
    times = 2 * torch.rand(n_samples, n_events, generator=generator, dtype=torch.float64)
    index = torch.randint(n_in, (n_samples, n_events), generator=generator)
    weight = torch.rand(n_in, n_out, generator=generator, dtype=torch.float64) * 1.2 - 0.5
    events = events_of(*([*zip(t.tolist(), i.tolist(), strict=True)] for t, i in zip(times, index, strict=True)))
    return Events(events.times_ms.to(dtype), events.index, events.offsets), weight.to(dtype)


def slopes_of(events, weight, found, taus, options):
    """dσ-derivative of the potential before each spike, from its definition; where there is none, infinite."""
    tau, rate = taus["tau_mem_ms"], taus["tau_mem_ms"] / taus["tau_syn_ms"]
    slopes = torch.full_like(found, inf)
    for b, k, n in found.isfinite().nonzero().tolist():
        part = slice(events.offsets[b], events.offsets[b + 1])
        times, w = events.times_ms[part], weight[events.index[part], n]
        since = (found[b, k, n] - times) / tau
        slopes[b, k, n] = (w * torch.exp(-rate * since))[since > 0].sum() - options["threshold"]
    return slopes


@pytest.mark.parametrize("n_out", [1, 3, 10, 16, 67, 530, 1030])
def test_cpu_agrees_with_the_reference(n_out, taus):
    """Double precision: the scalar solution is the same, and the hand-written sweep is what autograd says."""
    events, weight = net(n_out, n_out)
    generator = torch.Generator().manual_seed(1)
    outcomes = []
    for backend in HOST_BACKENDS:
        found, truncated, *leaves = run(events, weight, **{**OPTIONS, **taus, "max_spikes": 3}, backend=backend)
        grad = torch.randn(found.shape, generator=generator.manual_seed(1), dtype=found.dtype)
        outcomes.append((found.detach(), truncated, *torch.autograd.grad(found, leaves, grad)))
    (found, truncated, *gradients), (ours, our_truncated, *our_gradients) = outcomes
    assert n_out < 10 or 0.5 < found.isfinite().sum() / found[:, 0].numel() < 3
    assert n_out < 10 or truncated.any()
    assert torch.equal(truncated, our_truncated)
    torch.testing.assert_close(ours, found, rtol=0, atol=1e-10)
    for gradient, ours in zip(gradients, our_gradients, strict=True):
        assert (ours - gradient).norm() <= 1e-9 * gradient.norm()


@pytest.mark.parametrize("backend", HOST_BACKENDS)
def test_single_precision_is_exact_to_a_microsecond(backend):
    """Time constants of 260 and 130 ms; a microsecond is 4e-6 of the longer."""
    ms, taus = 130.0, {"tau_mem_ms": 260.0, "tau_syn_ms": 130.0}
    events, weight = net(3, 300)
    options = {**OPTIONS, **taus, "duration_ms": 4 * ms}
    events = Events((events.times_ms * ms).float(), events.index, events.offsets)
    weight = weight.float()
    exact, exact_truncated, *_ = run(
        Events(events.times_ms.double(), events.index, events.offsets), weight.double(), **options, backend="ref"
    )
    found, truncated, *_ = run(events, weight, **options, backend=backend)
    assert found.dtype == torch.float32
    slopes = slopes_of(
        Events(events.times_ms.double(), events.index, events.offsets), weight.double(), exact.detach(), taus, options
    )
    ordinary = (slopes > 0.1 * options["threshold"]).all(1)
    assert ordinary.double().mean() > 0.8
    pairs = [times.detach().double().movedim(1, 2)[ordinary] for times in (found, exact)]
    torch.testing.assert_close(*pairs, rtol=0, atol=1e-3)
    assert (truncated - exact_truncated).abs().max() <= 1


def central_differences(function, x, h=1e-7):
    """Derivatives by each element of x; and whether the function was defined on both sides of all."""
    flat = x.detach().clone().flatten()
    columns = []
    for i in range(len(flat)):
        values = []
        for step in (h, -h):
            moved = flat.clone()
            moved[i] += step
            values.append(function(moved.view_as(x)))
        columns.append((values[0] - values[1]) / (2 * h))
    return torch.stack(columns).view_as(x)


@pytest.mark.parametrize("seed", range(8))
def test_finite_differences(seed, taus):
    """Sums of spike times with random factors, where no slope is small: what is steep there is lost in rounding."""
    events, weight = net(seed, 3, n_in=5, n_samples=2, n_events=10)
    options = {**OPTIONS, **taus, "backend": "cpu"}
    found, _, times, leaf = run(events, weight, **options)
    usable = (slopes_of(events, weight, found.detach(), taus, options) > 0.3 * options["threshold"]).all(
        1, keepdim=True
    )
    factors = torch.randn(found.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    counted = found.detach().isfinite() & usable
    assert counted.sum() >= 2

    def loss(times, weight):
        found, *_ = run(Events(times, events.index, events.offsets), weight, **options)
        assert torch.equal(found.isfinite() & usable, counted)
        return (found.detach() * factors)[counted].sum()

    of_times, of_weight = torch.autograd.grad(found, (times, leaf), factors * counted)
    scale = max(of_times.abs().max(), of_weight.abs().max())
    assert (central_differences(lambda t: loss(t, weight), times) - of_times).abs().max() <= 1e-6 * scale
    assert (central_differences(lambda w: loss(times.detach(), w), leaf) - of_weight).abs().max() <= 1e-6 * scale


@pytest.mark.parametrize("seed", range(3))
def test_finite_differences_of_two_layers(seed, backend, taus):
    events, weight = net(seed, 6, n_in=5, n_samples=2, n_events=8)
    second = torch.rand(6, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    options = {**OPTIONS, **taus, "duration_ms": 6.0}

    def loss(first, second, backend="cpu", check=True):
        hidden, _, _, first = run(events, first, **options, backend=backend)
        train = in_order(hidden, backend=backend)
        found, *_ = spike_times(train, second, **{**options, "backend": backend})
        if check:
            assert torch.equal(hidden.isfinite(), finite[0])
            assert torch.equal(found.isfinite(), finite[1])
        return hidden, found, first, found[found.isfinite()].sum()

    leaf = second.clone().requires_grad_()
    hidden, found, first, total = loss(weight, leaf, backend, check=False)
    finite = hidden.isfinite(), found.isfinite()
    assert finite[0].sum() > 6
    assert finite[1].any()
    of_first, of_second = torch.autograd.grad(total, (first, leaf))
    scale = max(of_first.abs().max(), of_second.abs().max())
    expected = central_differences(lambda w: loss(w, second)[-1].detach(), weight)
    assert (expected - of_first).abs().max() <= 1e-6 * scale
    expected = central_differences(lambda w: loss(weight, w)[-1].detach(), second)
    assert (expected - of_second).abs().max() <= 1e-6 * scale


@pytest.mark.parametrize("dt", [1e-2, 1e-3])
def test_a_simulation_with_a_clock(taus, dt):
    """It looks at the threshold at its steps only, on which inputs lie. Neurons that a hair decides are left out."""
    events, weight = net(5, 120, n_samples=1)
    times = (events.times_ms * 50).round() / 50
    events = Events(times.sort().values, events.index, events.offsets)
    options = {"threshold": 0.8, "reset": 0.8, "max_spikes": 20, "duration_ms": 4.0, **taus, "backend": "cpu"}
    found, *_ = run(events, weight, **options)
    counts = found.isfinite().sum((0, 1))
    sure = torch.ones_like(counts, dtype=torch.bool)
    for factor in (0.97, 1.03):
        other, *_ = run(events, weight, **{**options, "threshold": factor * options["threshold"]})
        sure &= other.isfinite().sum((0, 1)) == counts
    sure &= (slopes_of(events, weight, found.detach(), taus, options) > 0.4 * options["threshold"]).all(1)[0]
    assert sure.sum() >= 12
    assert counts[sure].sum() > 20

    steps, tau = round(options["duration_ms"] / dt), taus["tau_mem_ms"]
    rates = torch.tensor([[-1 / tau, 1.0], [0.0, -1 / taus["tau_syn_ms"]]], dtype=torch.float64)
    propagator = torch.matrix_exp(rates * dt).numpy()
    arrivals = {}
    for time, i in zip(events.times_ms.tolist(), events.index.tolist(), strict=True):
        arrivals.setdefault(round(time / dt), []).append(i)
    state, trains = np.zeros((2, 120)), [[] for _ in range(120)]  # potential and current
    for step in range(steps):
        for i in arrivals.get(step, ()):
            state[1] += weight[i].numpy()
        state = propagator @ state
        fires = state[0] >= tau * options["threshold"]
        state[0] -= tau * options["reset"] * fires
        for n in fires.nonzero()[0]:
            trains[n].append((step + 1) * dt)
    for n in sure.nonzero()[:, 0].tolist():
        expected = found[0, :, n][found[0, :, n].isfinite()].tolist()
        assert len(trains[n]) == len(expected)
        # Each spike is seen late, and so resets late: the delays add up.
        assert trains[n][:3] == pytest.approx(expected[:3], rel=0, abs=3 * dt)


def test_more_samples_in_the_batch_change_nothing(backend, taus):
    events, weight = net(7, 50, n_samples=4)
    options = {**OPTIONS, **taus, "backend": backend}
    found, truncated, times, _ = run(events, weight, **options)
    factors = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    (of_times,) = torch.autograd.grad(found, times, factors)
    for b in range(4):
        part = slice(events.offsets[b], events.offsets[b + 1])
        size = part.stop - part.start
        alone = Events(events.times_ms[part], events.index[part], torch.tensor([0, size]))
        found_alone, truncated_alone, times, _ = run(alone, weight, **options)
        assert torch.equal(found_alone[0], found[b])
        assert truncated_alone.tolist() == [truncated[b]]
        (of_times_alone,) = torch.autograd.grad(found_alone, times, factors[b : b + 1])
        torch.testing.assert_close(of_times_alone, of_times[part], rtol=1e-12, atol=1e-12)


# --- properties ------------------------------------------------------------------------------------------------------

# Multiples of 1/8 in time and of 1/16 in weight, and a threshold that none of their sums makes a tangent of.
inputs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=12)
weights = st.lists(st.integers(-24, 48), min_size=4, max_size=4)
THRESHOLD = 0.3


def train_of(pairs, weights, taus, shift=0.0, scale=1.0):
    events = events_of([(time / 8 + shift, i) for time, i in pairs])
    weight = scale * torch.tensor(weights, dtype=torch.float64)[:, None] / 16
    options = {"threshold": scale * THRESHOLD, "reset": scale * 0.2, "max_spikes": 30, "duration_ms": 50 + shift}
    return run(events, weight, **options, **taus, backend="cpu")


@pytest.mark.parametrize("ratio", RATIOS)
@given(pairs=inputs, weights=weights, shift=st.integers(1, 1000))
def test_later_inputs_give_later_spikes(ratio, pairs, weights, shift):
    found, *_ = train_of(pairs, weights, RATIOS[ratio])
    shifted, *_ = train_of(pairs, weights, RATIOS[ratio], shift=float(shift))
    torch.testing.assert_close(shifted, found + shift, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
@given(pairs=inputs, weights=weights)
def test_input_times_move_every_spike_by_as_much(ratio, pairs, weights):
    found, _, times, weight = train_of(pairs, weights, RATIOS[ratio])
    for _, of_times in gradients_of_spikes(found, times, weight):
        assert sum(of_times) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
@given(pairs=inputs, weights=weights, exponent=st.integers(-20, 20))
def test_the_unit_of_weights_changes_nothing(ratio, pairs, weights, exponent):
    found, *_ = train_of(pairs, weights, RATIOS[ratio])
    scaled, *_ = train_of(pairs, weights, RATIOS[ratio], scale=2.0**exponent)
    torch.testing.assert_close(scaled, found, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ratio", RATIOS)
@given(pairs=inputs, weights=weights, order=st.randoms(use_true_random=False))
def test_inputs_at_one_time_come_in_any_order(ratio, pairs, weights, order):
    pairs = [(time // 8 * 8, i) for time, i in pairs]  # few different times
    found, truncated, *_ = train_of(pairs, weights, RATIOS[ratio])
    order.shuffle(pairs)
    again, truncated_again, *_ = train_of(pairs, weights, RATIOS[ratio])
    torch.testing.assert_close(again, found, rtol=0, atol=1e-6)
    assert torch.equal(truncated, truncated_again)


@given(
    times=st.lists(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), max_size=5), min_size=3, max_size=3), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_in_order(times, dtype):
    """Trains of 3 neurons, by sample."""
    dense = torch.full((len(times), 5, 3), inf, dtype=dtype)
    for b, trains in enumerate(times):
        for n, train in enumerate(trains):
            dense[b, : len(train), n] = torch.tensor(sorted(train), dtype=dtype)
    dense.requires_grad_()
    for backend in HOST_BACKENDS:
        events = in_order(dense, backend=backend)
        assert events.offsets.diff().tolist() == [sum(map(len, trains)) for trains in times]
        for b, trains in enumerate(times):
            part = slice(events.offsets[b], events.offsets[b + 1])
            pairs = list(zip(events.times_ms[part].tolist(), events.index[part].tolist(), strict=True))
            assert [t for t, _ in pairs] == sorted(t for t, _ in pairs)
            assert sorted(pairs) == sorted((t, n) for n, train in enumerate(trains) for t in train)
        grad = torch.arange(1.0, 1 + len(events.index), dtype=dtype)
        (back,) = torch.autograd.grad(events.times_ms, dense, grad)
        assert sorted(back[dense.isfinite()].tolist()) == grad.tolist()
        assert not back[~dense.isfinite()].any()


# --- threads ---------------------------------------------------------------------------------------------------------

# pytest's own process may have been told to use one thread only, so these run in another.
BITS = """
import torch
from snnbench.kernels import in_order, spike_times
from snnbench.types import Events

torch.manual_seed(0)
times, index = torch.rand(20, 40).sort(1).values.flatten(), torch.randint(50, (800,))
results = []
for threads in (1, 2):
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    leaves = times.clone().requires_grad_(), torch.rand(50, 1100).sub_(0.4).requires_grad_()
    found, truncated = spike_times(
        Events(leaves[0], index, torch.arange(0, 801, 40)), leaves[1], tau_mem_ms=2.0, tau_syn_ms=1.0, threshold=0.1,
        reset=0.1, max_spikes=8, duration_ms=4.0, backend="cpu",
    )
    events = in_order(found.detach(), backend="cpu")
    gradients = torch.autograd.grad(found, leaves, torch.randn(found.shape))
    results.append((found.detach(), truncated, events.index, events.times_ms, *gradients))
assert results[0][2].numel() > 65536  # so much that threads are woken
print(*(torch.equal(one, two) for one, two in zip(*results)))
"""


def test_the_number_of_threads_changes_no_bit():
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    command = [sys.executable, "-c", BITS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["True"] * 6, done.stdout + done.stderr
