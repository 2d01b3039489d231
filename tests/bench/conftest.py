"""Figures that benchmarks note down are printed at the end of the session."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    for benchmark in getattr(session, "benchmarks", ()):
        for name, figure in benchmark.extra_info.items():
            terminalreporter.write_line(f"{benchmark.name}: {name} = {figure:.4g}")
