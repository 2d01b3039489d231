"""The digest of the source that makes a result: a result of other code is stale."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import snnbench

_HARNESS = ("dataset.py", "rule.py", "types.py", "engine", "kernels", "layers")
"""What takes part in every trial. Reading, planning, storing and reporting do not change a trial's numbers."""

_AROUND_A_TRIAL = frozenset({"executor.py", "fidelity.py", "job.py", "sinks.py", "worker.py"})
"""Modules of the engine that start trials, hand their results on or measure something else; they change no number."""


def code_digest(plugin_sources: Iterable[Path]) -> str:
    """Digest the syntax trees of the plugins of a trial and of the harness's own part in it.

    Comments, docstrings and layout do not count; CUDA sources count as they are.

    Args:
        plugin_sources: files of the rule's, the dataset's and the encoding's plugins.
    """
    # Sorted by what is digested, not by where the files lie: another machine has them elsewhere.
    lines = sorted(
        f"{path.parent.name}/{path.name}:{_digest_file(path, path.stat().st_mtime_ns)}\n"
        for path in {*plugin_sources, *_harness_files()}
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def _harness_files() -> Iterable[Path]:
    root = Path(snnbench.__file__).parent
    for name in _HARNESS:
        path = root / name
        if path.is_dir():
            files = (file for suffix in ("*.py", "*.cu", "*.cuh") for file in path.rglob(suffix))
            yield from (file for file in files if name != "engine" or file.name not in _AROUND_A_TRIAL)
        else:
            yield path


@functools.cache
def _digest_file(path: Path, mtime_ns: int) -> str:  # noqa: ARG001 - the cache's key: a file edited meanwhile is read anew
    content = path.read_bytes()
    if path.suffix == ".py":
        # Written back to source: a dump of the tree differs between versions of Python.
        content = ast.unparse(_WithoutDocstrings().visit(ast.parse(content))).encode()
    return hashlib.sha256(content).hexdigest()


class _WithoutDocstrings(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        """Drop a constant that stands alone: a docstring of anything, attributes included."""
        return None if isinstance(node.value, ast.Constant) else node
