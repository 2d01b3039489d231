"""ANN-to-SNN conversion."""

from snnbench import Rule, hookimpl
from snnbench_conversion.rule import Conversion

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    """Return the rule ``conversion``."""
    return [Conversion]
