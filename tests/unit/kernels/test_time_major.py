"""How time-major data lie in memory: what is taken as it lies, and what is copied."""

import pytest
import torch

from snnbench.kernels import Surrogate, exponential_filter, integrate_and_fire, lif, time_major


def channels_last(*shape):
    n_steps, size, c, h, w = shape
    return torch.randn(n_steps, size, h, w, c, generator=torch.Generator().manual_seed(1)).permute(0, 1, 4, 2, 3)


PLAIN = torch.randn(4, 3, 2, 5, 6, generator=torch.Generator().manual_seed(1))
LAYOUTS = {
    "contiguous": (PLAIN, True, 180),
    "channels-last": (channels_last(4, 3, 2, 5, 6), True, 180),
    "every second step": (PLAIN[::2], False, 360),
    "one step, repeated": (PLAIN[:1].expand(4, 3, 2, 5, 6), False, 0),
    "one channel, channels-last": (channels_last(4, 3, 1, 5, 6), True, 90),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_steps_without_gaps_are_taken_as_they_lie(name):
    x, one_block, distance = LAYOUTS[name]
    taken, found = time_major.steps(x)
    assert taken.data_ptr() == x.data_ptr()
    assert found == distance
    assert time_major.is_one_block(x) == one_block
    fresh = time_major.empty_like(x)
    assert time_major.is_one_block(fresh)
    assert time_major.in_order_of(x, fresh) is x


@pytest.mark.parametrize(
    "x", [PLAIN[..., :5], PLAIN[:, :1].expand(4, 3, 2, 5, 6), PLAIN.expand(4, 3, 2, 5, 6)[:, :, ::2]]
)
def test_steps_with_gaps_or_repetitions_are_copied(x):
    taken, distance = time_major.steps(x)
    assert taken.is_contiguous()
    assert torch.equal(taken, x)
    assert distance == x[0].numel()
    assert not time_major.is_one_block(x)


def test_overlapping_steps_are_copied():
    x = torch.arange(30.0).as_strided((2, 3, 3), (9, 2, 2))  # spans as many elements as it has
    taken, _ = time_major.steps(x)
    assert torch.equal(taken, x)
    assert taken.is_contiguous()


def test_data_in_another_order_are_copied():
    x, other = PLAIN, channels_last(4, 3, 2, 5, 6)
    copied = time_major.in_order_of(x, other)
    assert copied.stride() == other.stride()
    assert torch.equal(copied, x)


@pytest.mark.parametrize("backend", ["cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_maps_stay_channels_last_and_every_number_is_the_same(backend, dtype):
    x, g = (2 * channels_last(7, 3, 4, 5, 6)).to(dtype), torch.randn(7, 3, 4, 5, 6).to(dtype)
    theta = 0.5 + torch.rand(4, 1, 1, dtype=dtype)
    options = {"decay": 0.8, "reset": "soft", "detach_reset": False, "surrogate": Surrogate.unit_area("arctan")}
    kernels = {
        "lif": lambda x: lif(x, backend=backend, **options),
        "lif, overwriting": lambda x: lif(x * 1, overwrite=True, backend=backend, **options),
        "filter": lambda x: exponential_filter(x, decay=0.8, backend=backend),
        "integrate": lambda x: integrate_and_fire(x, threshold=theta, backend=backend),
    }
    for name, kernel in kernels.items():
        leaf, plain = x.clone().requires_grad_(), x.contiguous().requires_grad_()
        y, expected = kernel(leaf), kernel(plain)
        assert y.stride() == x.stride(), name
        assert torch.equal(y, expected), name
        if y.requires_grad:
            for grad in (
                g,
                g.contiguous(memory_format=torch.contiguous_format)
                .permute(0, 1, 3, 4, 2)
                .contiguous()
                .permute(0, 1, 4, 2, 3),
            ):
                ours, theirs = (
                    torch.autograd.grad(y, leaf, grad, retain_graph=True),
                    torch.autograd.grad(expected, plain, grad, retain_graph=True),
                )
                assert torch.equal(ours[0], theirs[0]), name
