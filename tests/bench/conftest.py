"""Options, the allocator's setting, and what is printed at the end of the session."""

from __future__ import annotations

import pytest

from snnbench.engine.memory import keep_freed_memory


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("snnbench")
    group.addoption("--threads", type=int, nargs="+", default=[2], help="numbers of threads to measure kernels with")
    group.addoption("--quick", action="store_true", help="the smallest workloads, a second each; writes no results")


def pytest_configure(config: pytest.Config) -> None:
    """Give everyone who is timed the allocator's setting that training has."""
    keep_freed_memory()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "threads" in metafunc.fixturenames:
        metafunc.parametrize("threads", metafunc.config.getoption("--threads"), ids=lambda n: f"{n}-threads")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    session = getattr(terminalreporter.config, "_benchmarksession", None)
    for benchmark in getattr(session, "benchmarks", ()):
        for name, figure in benchmark.extra_info.items():
            if isinstance(figure, (int, float)):
                terminalreporter.write_line(f"{benchmark.name}: {name} = {figure:.4g}")
