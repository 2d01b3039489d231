"""Deep Spiking Networks: rectified units that compute and learn by herded spikes."""

from snnbench import Rule, hookimpl
from snnbench_deep_spiking.rule import DeepSpiking

SNNBENCH_API = (1, 0)


@hookimpl
def snnbench_rules() -> list[type[Rule]]:
    """Return the rule ``deep-spiking``."""
    return [DeepSpiking]
