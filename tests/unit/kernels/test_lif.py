"""The LIF kernel against autograd through a plain loop, finite differences, hand cases and closed forms."""

import itertools
import math

import pytest
import torch

from snnbench import BackendError, ParameterError
from snnbench.kernels import RESETS, SURROGATES, Surrogate, lif

DECAY, THRESHOLD = 0.8, 0.7
OPTIONS = list(itertools.product(RESETS, [True, False]))


def logistic(k):
    return lambda x: k * torch.sigmoid(k * x) * torch.sigmoid(-k * x)


def gaussian(gamma, sigma):
    return lambda x: gamma * torch.exp(-0.5 * (x / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))


# ours, the formula in the notation of whoever uses it, its peak, its area
TABLE = [
    (Surrogate("fast-sigmoid", 1 / 25), lambda x: 1 / (1 + 25 * x.abs()) ** 2, 1, 2 / 25),
    (Surrogate("fast-sigmoid", 1 / 100), lambda x: 1 / (1 + 100 * x.abs()) ** 2, 1, 2 / 100),
    (Surrogate("fast-sigmoid", 1 / 2), lambda x: 2 / (2 * (1 + 2 * x.abs()) ** 2), 1, 1),
    (Surrogate("exponential", 0.5, peak=0.5), lambda x: 0.5 * torch.exp(-2 * x.abs()), 0.5, 0.5),
    (Surrogate("arctan", 1 / math.pi), lambda x: 1 / (1 + (math.pi * x) ** 2), 1, 1),
    (Surrogate("logistic", 1 / 4), logistic(4), 1, 1),
    (Surrogate("logistic", 1 / 25, peak=25 / 4), logistic(25), 6.25, 1),
    (Surrogate("logistic", 1 / 5, peak=5 / 4), logistic(5), 1.25, 1),
    (Surrogate("triangular", 1.0, peak=0.3), lambda x: 0.3 * (1 - x.abs()).clamp(min=0), 0.3, 0.3),
    (Surrogate("triangular", 0.5), lambda x: (1 - 2 * x.abs()).clamp(min=0), 1, 0.5),
    (Surrogate("rectangular", 1.0), lambda x: (x.abs() < 0.5).to(x.dtype), 1, 1),
    (Surrogate("rectangular", 0.5, peak=2.0), lambda x: 2 * (x.abs() < 0.25).to(x.dtype), 2, 1),
    (Surrogate("gaussian", 0.5, peak=0.5 / (0.5 * math.sqrt(2 * math.pi))), gaussian(0.5, 0.5), 0.39894, 0.5),
]


def name(value):
    return f"{value.name}-{value.width:.2g}" if isinstance(value, Surrogate) else None


# --- surrogates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("surrogate", "formula", "peak", "area"), TABLE, ids=name)
def test_surrogate_has_its_formula_peak_and_area(surrogate, formula, peak, area):
    x = torch.linspace(-100, 100, 200_001, dtype=torch.float64)
    h = surrogate.derivative(x)
    torch.testing.assert_close(h, formula(x), rtol=1e-9, atol=1e-12)
    assert h.max().item() == pytest.approx(peak, rel=1e-3)
    # tails beyond the grid: of the arctan 2/(pi^2 100), of the fast sigmoid less
    assert torch.trapezoid(h, x).item() == pytest.approx(area, abs=6e-3 if surrogate.width > 0.1 else 2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("surrogate_name", SURROGATES)
@pytest.mark.parametrize("width", [0.01, None, 3.0])
def test_surrogate_is_symmetric_and_finite(surrogate_name, width, dtype):
    surrogate = Surrogate.unit_area(surrogate_name) if width is None else Surrogate(surrogate_name, width)
    x = torch.cat([torch.linspace(-100, 100, 4001, dtype=dtype), torch.tensor([1e30, 1e-30, 0.0], dtype=dtype)])
    before = x.clone()
    h = surrogate.derivative(x)
    assert torch.equal(x, before)
    assert torch.equal(h, surrogate.derivative(-x))
    assert h.isfinite().all()
    assert (h >= 0).all()
    assert h[-1] == 1


@pytest.mark.parametrize("surrogate_name", SURROGATES)
def test_unit_area_of_a_given_width(surrogate_name):
    x = torch.linspace(-1000, 1000, 400_001, dtype=torch.float64)
    surrogate = Surrogate.unit_area(surrogate_name, 0.5)
    assert surrogate.width == 0.5
    assert torch.trapezoid(surrogate.derivative(x), x).item() == pytest.approx(1, abs=1.1e-2)


@pytest.mark.parametrize("surrogate_name", SURROGATES)
def test_unit_area_has_area_and_peak_one(surrogate_name):
    x = torch.linspace(-1000, 1000, 400_001, dtype=torch.float64)
    h = Surrogate.unit_area(surrogate_name).derivative(x)
    assert h.max().item() == pytest.approx(1)
    assert torch.trapezoid(h, x).item() == pytest.approx(1, abs=6e-3)


def test_surrogates_that_cannot_be():
    with pytest.raises(ParameterError, match="unknown surrogate 'arctangent'") as error:
        Surrogate("arctangent", 1.0)
    assert "arctan" in error.value.hint
    with pytest.raises(ParameterError, match="unknown surrogate"):
        Surrogate.unit_area("step")
    with pytest.raises(ParameterError, match="width"):
        Surrogate("arctan", 0.0)


# --- gradient --------------------------------------------------------------------------------------------------------


class Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, formula):
        ctx.save_for_backward(x)
        ctx.formula = formula
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return g * ctx.formula(ctx.saved_tensors[0]), None


def plain_loop(current, step, reset, *, detach):
    """The equations, step by step, differentiated by autograd: potentials and spikes."""
    u = s = torch.zeros_like(current[0])
    membrane, spikes = [], []
    for i in current.unbind():
        r = s.detach() if detach else s
        if reset == "hard":
            u = DECAY * u * (1 - r) + i
        elif reset == "soft":
            u = DECAY * (u - THRESHOLD * r) + i
        elif reset == "soft-after-decay":
            u = DECAY * u - THRESHOLD * r + i
        else:
            u = DECAY * u + i
        s = step(u - THRESHOLD)
        membrane.append(u)
        spikes.append(s)
    return torch.stack(membrane), torch.stack(spikes)


def recursion(u, s, h, g, reset, *, detach):
    """δ[t] = h g + J δ[t+1] with the J that the kernel's docstring lists."""
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
        later = delta[t] = h[t] * g[t] + jacobian[t] * later
    return delta


@pytest.fixture
def currents():
    generator = torch.Generator().manual_seed(5)
    current = 0.3 + 0.6 * torch.randn(12, 64, generator=generator, dtype=torch.float64)
    g = torch.randn(12, 64, generator=generator, dtype=torch.float64)
    return current.requires_grad_(), g


@pytest.mark.parametrize(("surrogate", "formula", "peak", "area"), TABLE, ids=name)
@pytest.mark.parametrize(("reset", "detach"), OPTIONS)
def test_equals_autograd_through_a_plain_loop(currents, reset, detach, surrogate, formula, peak, area):
    current, g = currents
    membrane, expected = plain_loop(current, lambda x: Step.apply(x, formula), reset, detach=detach)
    (expected_grad,) = torch.autograd.grad(expected, current, g)
    spikes = lif(
        current, decay=DECAY, threshold=THRESHOLD, reset=reset, detach_reset=detach, surrogate=surrogate, backend="ref"
    )
    (grad,) = torch.autograd.grad(spikes, current, g)
    assert torch.equal(spikes, expected)
    assert 0.1 < spikes.mean() < 0.9
    # ours and the formula round alike but at the edge of a rectangle; no potential of this draw lies on one
    assert (grad - expected_grad).abs().max() <= 1e-12 * max(1, expected_grad.abs().max())
    u, s = membrane.detach(), expected.detach()
    by_recursion = recursion(u, s, formula(u - THRESHOLD), g, reset, detach=detach)
    assert (grad - by_recursion).abs().max() <= 1e-12 * max(1, expected_grad.abs().max())


@pytest.mark.parametrize("reset", ["hard", "soft", "soft-after-decay"])
def test_attached_recursion_is_the_derivative_of_the_smooth_network(currents, reset):
    def smooth(x):
        return torch.sigmoid(x / 0.2)

    def losses(values):
        """Each neuron's own loss, so that one evaluation perturbs one step of all of them."""
        return (g * plain_loop(values, smooth, reset, detach=True)[1]).sum(0)

    current, g = currents[0].detach(), currents[1]
    eps = 1e-6
    difference = torch.zeros_like(current)
    for t in range(len(current)):
        up, down = current.clone(), current.clone()
        up[t] += eps
        down[t] -= eps
        difference[t] = (losses(up) - losses(down)) / (2 * eps)
    u, s = plain_loop(current, smooth, reset, detach=True)
    h = s * (1 - s) / 0.2
    attached, detached = (recursion(u, s, h, g, reset, detach=detach) for detach in (False, True))
    assert (attached - difference).abs().max() < 1e-8
    assert (detached - difference).abs().max() > 1


@pytest.mark.parametrize(
    ("current", "reset", "last_spike", "detached", "attached"),
    [
        ((1.2, 0.7), "hard", 0, 1.00, 0.04),
        ((1.2, 0.7), "soft", 0, 1.80, 1.00),
        ((1.2, 0.7), "soft-after-decay", 0, 1.80, 0.80),
        ((0.9, 0.5), "hard", 1, 1.80, 1.08),
        ((0.9, 0.5), "soft", 1, 1.80, 1.00),
        ((0.9, 0.5), "soft-after-decay", 1, 1.80, 0.80),
    ],
)
def test_hand_cases(current, reset, last_spike, detached, attached):
    for detach, expected in ((True, detached), (False, attached)):
        i = torch.tensor(current, dtype=torch.float64).reshape(2, 1, 1).requires_grad_()
        spikes = lif(i, decay=0.8, reset=reset, detach_reset=detach, surrogate=Surrogate("rectangular", 1.0))
        spikes.sum().backward()
        assert spikes.flatten().tolist() == [float(current[0] > 1), last_spike]
        assert i.grad.flatten().tolist() == pytest.approx([expected, 1.0], abs=1e-15)


@pytest.mark.parametrize("reset", RESETS)
def test_gradient_of_silent_neurons_is_a_discounted_sum(reset):
    generator = torch.Generator().manual_seed(2)
    current = (0.1 * torch.rand(9, 3, 4, generator=generator, dtype=torch.float64)).requires_grad_()
    g = torch.randn(9, 3, 4, generator=generator, dtype=torch.float64)
    surrogate = Surrogate("logistic", 0.25)
    spikes = lif(current, decay=DECAY, reset=reset, detach_reset=True, surrogate=surrogate)
    assert not spikes.any()
    spikes.backward(g)
    lag = torch.arange(9)[None, :] - torch.arange(9)[:, None]
    discount = torch.where(lag >= 0, DECAY ** lag.to(torch.float64), 0.0)
    membrane = torch.einsum("kt,kbn->tbn", discount, current.detach())
    expected = torch.einsum("tk,kbn->tbn", discount, g * surrogate.derivative(membrane - 1))
    torch.testing.assert_close(current.grad, expected, rtol=0, atol=1e-14)


# --- forward and shapes ----------------------------------------------------------------------------------------------


def test_a_membrane_at_the_threshold_fires():
    current = torch.tensor([0.5, 0.75, 0.25, 1.0]).reshape(4, 1)  # dyadic: u = .5, 1, and from there by the reset
    options = {"decay": 0.5, "detach_reset": True, "surrogate": Surrogate.unit_area("arctan")}
    expected = {
        "hard": [0, 1, 0, 1],  # u = .5, 1, .25, 1.125
        "soft": [0, 1, 0, 1],  # u = .5, 1, .25, 1.125
        "soft-after-decay": [0, 1, 0, 0],  # u = .5, 1, -.25, .875
        "none": [0, 1, 0, 1],  # u = .5, 1, .75, 1.375
    }
    for reset, spikes in expected.items():
        assert lif(current, reset=reset, **options).flatten().tolist() == spikes


def run(current, reset="hard", detach=False):
    return lif(current, decay=0.8, reset=reset, detach_reset=detach, surrogate=Surrogate.unit_area("arctan"))


@pytest.mark.parametrize(("reset", "detach"), OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_memory_layout_changes_no_bit(reset, detach, dtype):
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(7, 3, 5, 11, generator=generator, dtype=dtype)
    g = torch.randn(11, 5, 3, 7, generator=generator, dtype=dtype).permute(3, 2, 1, 0)
    strided = base.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    grads = []
    for current, grad in ((base, g.contiguous()), (strided, g), (base.repeat(1, 1, 1, 2)[..., :11], g)):
        leaf = current.detach().requires_grad_()
        spikes = run(leaf, reset, detach)
        assert spikes.dtype == dtype
        assert spikes.is_contiguous()
        assert torch.equal(spikes, run(base, reset, detach))  # without a backward pass to come, too
        grads.append(torch.autograd.grad(spikes, leaf, grad)[0])
    assert torch.equal(grads[0], grads[1])
    assert torch.equal(grads[0], grads[2])


def test_an_expanded_current_is_the_repeated_one():
    generator = torch.Generator().manual_seed(4)
    once = torch.rand(3, 5, generator=generator, dtype=torch.float64).requires_grad_()
    g = torch.randn(6, 3, 5, generator=generator, dtype=torch.float64)
    repeated = once.detach().repeat(6, 1, 1).requires_grad_()
    spikes = run(once.expand(6, 3, 5))
    assert torch.equal(spikes, run(repeated))
    spikes.backward(g)
    run(repeated).backward(g)
    torch.testing.assert_close(once.grad, repeated.grad.sum(0), rtol=1e-14, atol=1e-14)


def test_gradient_of_a_sum_over_time_arrives_expanded():
    current = torch.randn(6, 2, 3, dtype=torch.float64, requires_grad=True)
    run(current).sum(0).backward(torch.ones(2, 3, dtype=torch.float64))
    (expected,) = torch.autograd.grad(run(current), current, torch.ones(6, 2, 3, dtype=torch.float64))
    assert torch.equal(current.grad, expected)


@pytest.mark.parametrize("shape", [(1, 4, 3), (5, 0, 3), (5, 1, 1), (3, 2, 2, 3, 4)])
def test_awkward_shapes(shape):
    current = torch.ones(shape, requires_grad=True)
    spikes = run(current)
    spikes.sum().backward()
    assert spikes.shape == current.grad.shape == shape
    assert spikes.eq(1).all()


def test_neurons_do_not_see_each_other():
    current = torch.randn(8, 4, 6, dtype=torch.float64)
    together = run(current)
    assert torch.equal(together[:, 2:3, 1:4], run(current[:, 2:3, 1:4]))


def test_backends_and_resets_that_are_not():
    current, surrogate = torch.ones(2, 1), Surrogate.unit_area("arctan")
    with pytest.raises(BackendError, match="kernel 'lif' has no backend 'tpu'"):
        lif(current, decay=0.5, reset="hard", detach_reset=True, surrogate=surrogate, backend="tpu")
    with pytest.raises(ParameterError, match="unknown reset 'sof'") as error:
        lif(current, decay=0.5, reset="sof", detach_reset=True, surrogate=surrogate)
    assert "did you mean 'soft'" in error.value.hint
