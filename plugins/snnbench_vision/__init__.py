"""Images: the datasets ``digits``, ``mnist`` and ``fashion-mnist``, and the encodings that turn pixels into input.

The encodings ``direct``, ``rate``, ``integrate`` and ``latency`` take any values in [0, 1], not only pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from snnbench import Dataset, Encoding, hookimpl

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_datasets() -> Sequence[type[Dataset]]:
    """Return the image datasets."""
    from snnbench_vision.digits import Digits
    from snnbench_vision.idx import FashionMnist, Mnist

    return [Digits, FashionMnist, Mnist]


@hookimpl
def snnbench_encodings() -> Sequence[type[Encoding]]:
    """Return the encodings of values in [0, 1]."""
    from snnbench_vision.encodings import Direct, Integrate, Latency, Rate

    return [Direct, Integrate, Latency, Rate]
