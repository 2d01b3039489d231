"""Which implementation a call gets, and the reason if it gets none."""

import subprocess
import sys

import pytest
import torch

from snnbench import BackendError
from snnbench.kernels import BACKENDS, default_backend, exponential_filter, lif
from snnbench.kernels.surrogate import Surrogate


def test_defaults_are_backends():
    assert default_backend("cpu") == "cpu"
    assert {default_backend("cpu"), default_backend("cuda")} <= set(BACKENDS)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_a_type_that_is_not_compiled_is_refused_with_the_way_out(dtype):
    with pytest.raises(BackendError, match=f"backend 'cpu' of kernel 'exponential_filter' does not take {dtype}") as e:
        exponential_filter(torch.ones(2, 1, 1, dtype=dtype), decay=0.5, backend="cpu")
    assert "torch.float32" in e.value.hint
    assert "'ref'" in e.value.hint


def test_another_device_is_refused():
    with pytest.raises(BackendError, match="'cpu' of kernel 'exponential_filter' does not run on meta"):
        exponential_filter(torch.ones(2, 1, 1, device="meta"), decay=0.5, backend="cpu")
    with pytest.raises(BackendError, match="'cuda' of kernel 'exponential_filter' does not run on cpu"):
        exponential_filter(torch.ones(2, 1, 1), decay=0.5, backend="cuda")


def test_numba_is_not_imported_before_a_compiled_kernel_is_used_and_its_lack_is_the_reason_then():
    code = """
import sys, torch
from snnbench import BackendError
from snnbench.kernels import exponential_filter
x = torch.ones(2, 1, 1)
exponential_filter(x, decay=0.5, backend="ref")
print("numba" in sys.modules)
sys.modules["numba"] = None
try:
    exponential_filter(x, decay=0.5, backend="cpu")
except BackendError as error:
    print("numba" in error.message, "install numba" in error.hint)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["False", "True", "True"]


OPTIONS = {"decay": 0.8, "reset": "hard", "detach_reset": False, "surrogate": Surrogate.unit_area("arctan")}


@pytest.mark.parametrize("backend", ["ref", "cpu"])
def test_permission_to_overwrite_changes_no_bit(backend):
    x = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    g = torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(1))
    expected = lif(x, **OPTIONS, backend=backend)
    (expected_grad,) = torch.autograd.grad(expected, x, g)
    for current in (2 * x / 2, (2 * x / 2).transpose(0, 1).contiguous().transpose(0, 1)):
        spikes = lif(current, **OPTIONS, overwrite=True, backend=backend)
        (grad,) = torch.autograd.grad(spikes, x, g)
        assert torch.equal(spikes, expected)
        assert torch.equal(grad, expected_grad)


def test_an_overwritten_current_holds_the_membrane():
    x = torch.full((3, 1, 1), 0.5, requires_grad=True)
    current = x * 1
    lif(current, **{**OPTIONS, "decay": 0.5}, overwrite=True, backend="cpu")
    assert current.flatten().tolist() == [0.5, 0.75, 0.875]


def test_a_current_that_another_operation_kept_is_not_overwritten_unnoticed():
    current = torch.randn(6, 3, 5, requires_grad=True).exp()  # whose gradient is its own value
    spikes = lif(current, **OPTIONS, overwrite=True, backend="cpu")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        spikes.sum().backward()
