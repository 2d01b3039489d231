"""The contract of kernels, as checks over every kernel and every implementation that runs on this machine.

The oracle of spikes is not another implementation but the equations: fed with a neuron's own past spikes, they say in
double precision what its membrane was, and each spike must be what the membrane says, unless that lies within a stated
margin of the threshold. So one spike that rounding flipped does not condemn all that follow. Gradients are compared
with those of ``ref`` in double precision, where both fire alike. Where inputs are small multiples of 2^-k no rounding
happens in either, and bits must be equal.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from math import e, log
from typing import TYPE_CHECKING, Any

import torch

import snnbench.kernels
from snnbench.errors import BackendError, ContractError
from snnbench.kernels import BACKENDS, RESETS, SURROGATES, AlphaKernel, Surrogate
from snnbench.kernels.backends import implementation
from snnbench.kernels.synaptic_lif import GRADIENTS
from snnbench.kernels.tssl_bp import VARIANTS
from snnbench.testing.checks import Check, check

if TYPE_CHECKING:
    from torch import Tensor

SHAPES = ((1, 4, 3), (5, 0, 3), (5, 1, 1), (3, 2, 2, 3, 4), (7, 3, 67))
"""``[T, B, *shape]`` that break tilings: one step, no sample, one neuron, maps, a prime number."""

MARGIN = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Distance from a threshold, in units of it, within which a spike may be missing or too many."""

_DYADIC_STEPS = 4  # products of attached gradients double their digits with every step


@dataclass(frozen=True, slots=True)
class _Example:
    """How the checks run one kernel.

    Attributes:
        options: named sets of keyword arguments that all implementations are compared on.
        dyadic: keyword arguments to be laid over the options so that no operation rounds.
        membrane: potentials before reset and thresholds, by the equations in the input's type, from the input, the
            spikes and the options; None if the kernel's output is no spikes.
        call: how to run a kernel that takes more than its input and options: the kernel's function, an input of any
            numbers and the keyword arguments, to an output of the input's shape.
        exact_gradient: whether the gradient of such inputs needs no rounding either.
    """

    options: Mapping[str, Mapping[str, Any]]
    dyadic: Mapping[str, Any]
    membrane: Callable[[Tensor, Tensor, Mapping[str, Any]], tuple[Tensor, Tensor]] | None = None
    call: Callable[..., Tensor] | None = None
    exact_gradient: bool = True


def _lif_membrane(current: Tensor, spikes: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    decay, theta, reset = options["decay"], options["threshold"], options["reset"]
    u = s = torch.zeros_like(current[0])
    potentials = []
    for now, fired in zip(current.unbind(), spikes.unbind(), strict=True):
        u = {
            "hard": decay * u * (1 - s),
            "soft": decay * (u - theta * s),
            "soft-after-decay": decay * u - theta * s,
            "none": decay * u,
        }[reset] + now
        s = fired
        potentials.append(u)
    return torch.stack(potentials), torch.as_tensor(theta)


def _synaptic_lif_membrane(current: Tensor, spikes: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    alpha = options["trace_decay"]
    i = torch.zeros_like(current[0])
    filtered = []
    for now in current.unbind():
        i = alpha * i + (1 - alpha) * now
        filtered.append(i)
    return _lif_membrane(torch.stack(filtered), spikes, {"reset": "hard", **options})


def _integrate_and_fire_membrane(current: Tensor, spikes: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    theta = torch.as_tensor(options["threshold"], dtype=current.dtype, device=current.device)
    v = options["initial_share"] * theta * torch.ones_like(current[0])
    potentials = []
    for now, fired in zip(current.unbind(), spikes.unbind(), strict=True):
        m = v + now
        v = m - theta * fired if options["reset"] == "soft" else m * (1 - fired)
        potentials.append(m)
    return torch.stack(potentials), theta


class _Step(torch.autograd.Function):
    """1 where a number is at least 1, else 0; gradients pass as they are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return (x >= 1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # noqa: ARG004
        return grad


def _call_event_linear(function: Callable[..., Tensor], x: Tensor, *, n_out: int, backend: str) -> Tensor:
    """Run on the spikes of the input, with weights of few digits; repeat the outputs to as many as there are inputs."""
    spikes = _Step.apply(x).flatten(2)
    index = snnbench.kernels.index_spikes(spikes, backend=backend)
    assert index is not None
    n_in = spikes.shape[-1]
    weight = (torch.arange(n_out * n_in, device=x.device) % 61 - 30).view(n_out, n_in).to(x.dtype) / 16
    y = function(spikes, weight, weight[:, 0].clone(), index=index, backend=backend)
    return y[..., torch.arange(n_in, device=x.device) % n_out].reshape(x.shape)


_RECURRENT_SIZE = 128
"""Neurons of a recurrent layer: larger inputs are those of several layers side by side."""


def _recurrent_weight(n: int, x: Tensor) -> Tensor:
    """Make weights of few digits that neither silence nor drive a layer."""
    return ((torch.arange(n * n, device=x.device) % 61 - 30).view(n, n) / 256).to(x.dtype)


def _call_recurrent_lif(function: Callable[..., Tensor], x: Tensor, **options: Any) -> Tensor:
    layers = x.flatten(2).split(_RECURRENT_SIZE, dim=-1)
    spikes = [function(part, _recurrent_weight(part.shape[-1], x), **options) for part in layers]
    return torch.cat(spikes, dim=-1).reshape(x.shape)


def _recurrent_lif_membrane(current: Tensor, spikes: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    before = torch.cat([torch.zeros_like(spikes[:1]), spikes[:-1]]).flatten(2)
    layers = before.split(_RECURRENT_SIZE, dim=-1)
    heard = torch.cat([part @ _recurrent_weight(part.shape[-1], current).T for part in layers], dim=-1)
    return _lif_membrane(current + heard.reshape(current.shape), spikes, options)


def _srm_membrane(current: Tensor, spikes: Tensor, options: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    def filtered(x: Tensor, alpha: AlphaKernel) -> Tensor:
        lag = torch.arange(len(x))[:, None] - torch.arange(len(x))
        samples = torch.where(lag >= 0, alpha.samples(len(x))[lag.clamp(min=0)], 0.0)
        return torch.einsum("tk,k...->t...", samples.to(x), x)

    incoming = current if options["response"] is None else filtered(current, options["response"])
    return incoming + filtered(spikes, options["refractory"]), torch.as_tensor(options["threshold"])


def _dyadic_alpha(gain: float, tolerance: float) -> AlphaKernel:
    """Make samples gain · k / 2^k that no operation rounds, cut off within ``_DYADIC_STEPS``."""
    return AlphaKernel(tau_ms=1 / log(2), dt_ms=1.0, peak=gain / (e * log(2)), tolerance=tolerance)


def _call_pool(function: Callable[..., Tensor], x: Tensor, *, gain: float, backend: str) -> Tensor:
    """Make of every number a map of 3 x 5, two windows across and a margin, and add up what they deliver."""
    weights = (torch.arange(15, device=x.device).view(3, 5) - 7).to(x.dtype) / 8
    maps = x.flatten(2)[..., None, None] * weights
    return function(maps, window=2, gain=gain, backend=backend).sum((-2, -1)).reshape(x.shape)


_LIF_OPTIONS = {
    f"{reset}-{'detached' if detach else 'attached'}-{name}": {
        "decay": 0.8,
        "threshold": 0.7,
        "reset": reset,
        "detach_reset": detach,
        "surrogate": Surrogate(name, width=0.4, peak=1.5),
    }
    for reset in RESETS
    for detach in (True, False)
    for name in (SURROGATES if (reset, detach) == ("hard", False) else ("arctan",))
}

_EXAMPLES = {
    "alpha_filter": _Example(
        options={"cut": {"alpha": AlphaKernel(3.0, 1.0)}, "whole": {"alpha": AlphaKernel(3.0, 1.0, tolerance=None)}},
        dyadic={"alpha": _dyadic_alpha(1.0, 0.4)},
    ),
    "axonal_delay": _Example(
        options={f"{delay} ms": {"delay_ms": torch.tensor(delay), "dt_ms": 1.0} for delay in (0.0, 2.7, 100.0)},
        dyadic={},
    ),
    "event_linear": _Example(options={"32 outputs": {"n_out": 32}}, dyadic={}, call=_call_event_linear),
    "exponential_filter": _Example(
        options={"membrane": {"decay": 0.8}, "trace": {"decay": 0.8, "gain": 0.2}, "sum": {"decay": 1.0}},
        dyadic={"decay": 0.5, "gain": 0.25},
    ),
    "herding": _Example(options={"signed": {}, "rectified": {"rectified": True}}, dyadic={}),
    "integrate_and_fire": _Example(
        options={
            reset: {"threshold": 0.7, "initial_share": share, "reset": reset}
            for reset, share in (("soft", 0.5), ("hard", 0.0))
        },
        dyadic={"threshold": 0.75},
        membrane=_integrate_and_fire_membrane,
    ),
    "lif": _Example(
        options=_LIF_OPTIONS,
        dyadic={"decay": 0.5, "threshold": 0.75, "surrogate": Surrogate("rectangular", 1.0)},
        membrane=_lif_membrane,
    ),
    "pool": _Example(options={"sum": {"gain": 1.0}, "mean": {"gain": 0.25}}, dyadic={}, call=_call_pool),
    "recurrent_lif": _Example(
        options=_LIF_OPTIONS,
        dyadic={"decay": 0.5, "threshold": 0.75, "surrogate": Surrogate("rectangular", 1.0)},
        membrane=_recurrent_lif_membrane,
        call=_call_recurrent_lif,
    ),
    "srm": _Example(
        options={
            f"{'given' if response is None else 'filtered'}-{way}-{name}": {
                "response": response,
                "refractory": refractory,
                "threshold": 0.7,
                "surrogate": Surrogate(name, width=0.7, peak=1.5),
                "attach_refractory": way == "attached",
            }
            for response, refractory in (
                (AlphaKernel(2.0, 1.0), AlphaKernel(1.0, 1.0, peak=-1.4)),
                (None, AlphaKernel(1.0, 1.0, peak=-1.4, tolerance=None)),
            )
            for way in ("detached", "attached")
            for name in (SURROGATES if (response, way) == (None, "detached") else ("exponential",))
        },
        dyadic={
            "response": _dyadic_alpha(1.0, 0.4),
            "refractory": _dyadic_alpha(-2.0, 0.8),
            "threshold": 0.75,
            "surrogate": Surrogate("rectangular", 1.0),
        },
        membrane=_srm_membrane,
    ),
    "synaptic_lif": _Example(
        options={
            f"{reset}-{gradient}-{name}": {
                "trace_decay": 0.4,
                "decay": 0.8,
                "threshold": 0.4,
                "reset": reset,
                "gradient": gradient,
                "surrogate": Surrogate(name, width=0.4, peak=1.5),
            }
            for reset, gradient, name in (
                *((reset, gradient, "arctan") for reset in ("hard", "soft") for gradient in GRADIENTS),
                *((reset, "attached", "logistic") for reset in ("soft-after-decay", "none")),
                *(("hard", "attached", name) for name in SURROGATES),
            )
        },
        dyadic={"trace_decay": 0.5, "decay": 0.5, "threshold": 0.75, "surrogate": Surrogate("rectangular", 1.0)},
        membrane=_synaptic_lif_membrane,
    ),
    "tssl_bp": _Example(
        options={
            variant: {"trace_decay": 0.4, "decay": 0.8, "threshold": 0.4, "surrogate_width": 0.3, "variant": variant}
            for variant in VARIANTS
        },
        dyadic={"trace_decay": 0.5, "decay": 0.5, "threshold": 0.75},
        membrane=_synaptic_lif_membrane,
        exact_gradient=False,
    ),
}


@dataclass(frozen=True, slots=True)
class KernelCase:
    """One kernel, one implementation, one set of options, on one device."""

    kernel: str
    backend: str
    options: str
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.kernel}-{self.backend}-{self.options}"

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Types that the implementation takes; none if it does not run here."""
        return tuple(dtype for dtype in (torch.float32, torch.float64) if self._takes(dtype))

    def _takes(self, dtype: torch.dtype) -> bool:
        try:
            implementation(self.kernel, self.backend, torch.ones(1, 1, 1, dtype=dtype, device=self.device))
        except BackendError:
            return False
        return True

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments."""
        return dict(_EXAMPLES[self.kernel].options[self.options])

    def draw(self, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return an input that makes neurons fire about every third step, and a gradient; the same at every call."""
        generator = torch.Generator().manual_seed(len(shape))
        x, g = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        return (0.3 + 0.6 * x).to(self.device, dtype), g.to(self.device, dtype)

    def run(self, x: Tensor, grad: Tensor | None = None, **overrides: Any) -> tuple[Tensor, Tensor | None]:
        """Return the output and, if it carries one, the gradient of the input."""
        function = getattr(snnbench.kernels, self.kernel)
        if (call := _EXAMPLES[self.kernel].call) is not None:
            function = functools.partial(call, function)
        x = x.detach().requires_grad_(grad is not None)
        y: Tensor = function(x, **{"backend": self.backend, **self.arguments, **overrides})
        if grad is None or not y.requires_grad:
            return y, None
        return y.detach(), torch.autograd.grad(y, x, grad)[0]


_NOT_TIME_MAJOR = frozenset({"recordings", "spike_times"})
"""Kernels whose input is another: these checks say nothing about them."""


def kernels() -> tuple[str, ...]:
    """Return the names of all time-major kernels: the folders below ``snnbench.kernels``.

    Raises:
        ContractError: the checks do not know how to call one of them.
    """
    folders = (module.name for module in pkgutil.iter_modules(snnbench.kernels.__path__) if module.ispkg)
    names = tuple(name for name in folders if name not in _NOT_TIME_MAJOR)
    if set(names) != set(_EXAMPLES):
        raise ContractError(
            f"checks know the kernels {sorted(_EXAMPLES)}, there are {sorted(names)}",
            hint="each kernel needs its example in snnbench/testing/kernels.py",
        )
    return names


def kernel_cases(device: str = "cpu") -> list[KernelCase]:
    """Return a case for every kernel, every implementation that runs on the device, and every set of options."""
    cases = [
        KernelCase(kernel, backend, options, device)
        for kernel in kernels()
        for backend in BACKENDS
        for options in _EXAMPLES[kernel].options
    ]
    return [case for case in cases if case.dtypes]


def kernel_checks() -> tuple[Check[KernelCase], ...]:
    """Return all checks."""
    return (signatures_are_equal, bits_are_exact, output_obeys, gradient_obeys, layout_is_nothing, shapes_are_any)


@check("every implementation has the signature of the reference")
def signatures_are_equal(case: KernelCase) -> Iterator[str]:
    """Compare the functions of the modules ``ref`` and of the backend."""
    ours, reference = (
        inspect.signature(getattr(import_module(f"snnbench.kernels.{case.kernel}.{backend}"), case.kernel))
        for backend in (case.backend, "ref")
    )
    if ours != reference:
        yield f"{ours} instead of {reference}"


@check("where nothing rounds, output and gradient have the bits of the reference")
def bits_are_exact(case: KernelCase) -> Iterator[str]:
    """Run on multiples of 1/16; the gradient of single precision has too few digits."""
    generator = torch.Generator().manual_seed(0)
    x, g = (torch.randint(-16, 32, (_DYADIC_STEPS, 5, 67), generator=generator) / 16 for _ in range(2))
    overrides = _EXAMPLES[case.kernel].dyadic
    for dtype in case.dtypes:
        inputs = x.to(case.device, dtype), g.to(case.device, dtype)
        y, grad = case.run(*inputs, **overrides)
        expected, expected_grad = case.run(*inputs, **overrides, backend="ref")
        if not torch.equal(y, expected):
            yield f"output of {dtype} differs in {int((y != expected).sum())} places"
        exact = _EXAMPLES[case.kernel].exact_gradient and dtype == torch.float64
        if exact and grad is not None and expected_grad is not None:
            differing = int((grad != expected_grad).sum())
            if differing:
                yield f"gradient of {dtype} differs in {differing} places"


@check("the output is what the equations say")
def output_obeys(case: KernelCase) -> Iterator[str]:
    """Run long enough for spikes that depend on others."""
    for dtype in case.dtypes:
        x, _ = case.draw((50, 3, 67), dtype)
        y, _ = case.run(x)
        if _EXAMPLES[case.kernel].membrane is not None and not 0.1 < y.double().mean() < 0.9:
            yield f"{dtype}: a rate of {float(y.double().mean()):.2f} checks little"
        yield from _misfits(case, x, y)


def _misfits(case: KernelCase, x: Tensor, y: Tensor) -> Iterator[str]:
    """Follow the equations in double precision along the kernel's own spikes; compare other outputs with ``ref``."""
    membrane, margin = _EXAMPLES[case.kernel].membrane, MARGIN[x.dtype]
    if membrane is None:
        expected, _ = case.run(x.double(), backend="ref")
        if not torch.allclose(y.double(), expected, rtol=margin, atol=margin):
            yield f"{tuple(x.shape)} {x.dtype}: off by {float((y.double() - expected).abs().max()):.1e}"
        return
    u, theta = membrane(x.double(), y.double(), case.arguments)
    wrong = ((u >= theta) != y.bool()) & ((u - theta).abs() > margin * theta)
    if wrong.any():
        yield f"{tuple(x.shape)} {x.dtype}: {int(wrong.sum())} spikes are not what the membrane says"


@check("the gradient is the reference's, in double precision")
def gradient_obeys(case: KernelCase) -> Iterator[str]:
    """Compare neurons that fire alike, each relative to the largest gradient."""
    for dtype in case.dtypes:
        x, g = case.draw((50, 3, 67), dtype)
        y, grad = case.run(x, g)
        expected_y, expected = case.run(x.double(), g.double(), backend="ref")
        if grad is None or expected is None:
            continue
        alike = (y == expected_y).all(0) if _EXAMPLES[case.kernel].membrane else slice(None)
        worst = float((grad.double() - expected)[:, alike].abs().max())
        if worst > 10 * MARGIN[dtype] * float(expected.abs().max()):
            yield f"{dtype}: off by {worst:.1e}"


@check("bits do not depend on the memory layout, and the input stays as it is")
def layout_is_nothing(case: KernelCase) -> Iterator[str]:
    """Run permuted, gapped, sliced and repeated inputs and gradients, and their contiguous copies."""
    for dtype in case.dtypes:
        x, g = case.draw((6, 3, 4, 35), dtype)
        layouts = {
            "permuted": x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
            "with gaps": x.repeat(1, 1, 1, 2)[..., :35],
            "every second step": x[::2],
            "a slice of the batch": x[:, 1:2],
            "one step, repeated": x[:1].expand_as(x),
            "one sample, repeated": x[:, :1].expand_as(x),
            "one number, repeated": x[:1, :1, :1, :1].expand_as(x),
        }
        for name, layout in layouts.items():
            before, plain = layout.clone(), layout.contiguous()
            grads = {"gradient": g[: len(layout), : layout.shape[1]], "gradient " + name: layout}
            for what, grad in grads.items():
                y, got = case.run(layout, grad)
                expected, expected_grad = case.run(plain, grad.contiguous())
                if not torch.equal(y, expected) or not torch.equal(y, case.run(layout)[0]):
                    yield f"{dtype}, {name}: another output"
                if got is not None and expected_grad is not None and not torch.equal(got, expected_grad):
                    yield f"{dtype}, {name}: another {what}"
            if not torch.equal(layout, before):
                yield f"{dtype}, {name}: the input was overwritten"


@check("every shape is taken")
def shapes_are_any(case: KernelCase) -> Iterator[str]:
    """Run the awkward ``SHAPES``, and none at all."""
    for dtype in case.dtypes:
        for shape in (*SHAPES, (0, 2, 3)):
            x, g = case.draw(shape, dtype)
            y, grad = case.run(x, g)
            if y.shape != x.shape or y.dtype != dtype or not y.is_contiguous():
                yield f"{shape} {dtype} gives {tuple(y.shape)} {y.dtype}"
            if grad is not None and grad.shape != x.shape:
                yield f"{shape} {dtype} has a gradient of {tuple(grad.shape)}"
            if x.numel():
                yield from _misfits(case, x, y)
