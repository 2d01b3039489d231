"""Noise without a state: a hash of what a draw is for, so that it does not depend on batch size, order or device."""

from __future__ import annotations

import torch
from torch import Tensor

from snnbench import SampleKeys, derive_seed


def _wrapped(value: int) -> int:
    """Return the signed 64-bit integer with the bits of ``value``: torch has no unsigned arithmetic."""
    return value - (1 << 64) if value >> 63 else value


# SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", OOPSLA): the increment, and
# (shift, factor) of the two rounds of its mixer, Stafford's variant 13.
_INCREMENT = _wrapped(0x9E3779B97F4A7C15)
_ROUNDS = ((30, _wrapped(0xBF58476D1CE4E5B9)), (27, _wrapped(0x94D049BB133111EB)))
_LAST_SHIFT = 31


def mix64(state: Tensor) -> Tensor:
    """Apply the mixer of SplitMix64 to int64 ``state``, in place, and return it."""
    for shift, factor in _ROUNDS:
        state ^= _shifted(state, shift)
        state *= factor
    state ^= _shifted(state, _LAST_SHIFT)
    return state


def _shifted(state: Tensor, shift: int) -> Tensor:
    """Shift right, filling up with zeros: torch repeats the sign."""
    return (state >> shift).bitwise_and_((1 << (64 - shift)) - 1)


def uniform(keys: SampleKeys, n_steps: int, n_values: int) -> Tensor:
    """Draw uniformly from [0, 1), with a resolution of 2^-24, for each step and value of each sample.

    A draw depends on the seed, the epoch, the sample's index, the step and the value's place, and on nothing else.

    Args:
        keys: whose noise it is; the draws are made on the device of ``keys.index``.
        n_steps: number of steps T.
        n_values: number of values n of a sample.

    Returns:
        ``[T, B, n]`` float32.
    """
    stream = mix64((keys.index + 1) * _INCREMENT + derive_seed("encoding", keys.seed, keys.epoch))
    # one hash of 64 bits serves two neighbouring values
    n_pairs = (n_values + 1) // 2
    counter = torch.arange(1, n_steps * n_pairs + 1, device=keys.index.device).view(n_steps, 1, n_pairs)
    hashes = mix64(counter * _INCREMENT + stream.view(1, -1, 1))
    halves = hashes.view(torch.int32)[..., :n_values]
    return (halves & 0xFFFFFF) * 2.0**-24
