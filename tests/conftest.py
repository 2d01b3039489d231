"""What tests share: a plugin file with a tiny dataset and rules that fail as told."""

from __future__ import annotations

import signal
from pathlib import Path

import hypothesis
import pytest

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("snnbench", deadline=None)
hypothesis.settings.load_profile("snnbench")

# What a shell puts into the background is deaf to Ctrl-C, and so are its children; some tests are about Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def tiny_plugin() -> Path:
    return Path(__file__).parent / "tiny_plugin.py"
