"""What tests share: a plugin file with a tiny dataset and rules that fail as told."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_plugin() -> Path:
    return Path(__file__).parent / "tiny_plugin.py"
