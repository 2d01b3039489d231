"""Control rows: what a comparison of learning rules needs beside it to be read rightly."""

from snnbench import Rule, hookimpl
from snnbench_controls.analog import Ann, Linear
from snnbench_controls.frozen import FrozenHidden

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    """Return the control rows."""
    return [Ann, FrozenHidden, Linear]
