"""Statistics over seeds, over test samples and over tasks. They answer different questions, so each says which one.

- ``intervals``: of a mean over seeds, of one model's accuracy over test samples.
- ``paired``: two rules over the seeds that both have.
- ``published``: our mean and a figure that somebody published.
- ``samples``: trained models on the same test samples.
- ``tasks``: rules over many tasks.

What the data cannot support is not computed: an interval that would cover outside 93 to 97 % for normal data is None,
with the reason beside it; a difference is ``not resolved``.
"""

from snnbench.records.statistics.intervals import (
    LEVEL,
    Interval,
    mean,
    pooled_wilson_interval,
    standard_deviation,
    t_interval,
    wilson_interval,
)
from snnbench.records.statistics.paired import (
    Comparison,
    as_family,
    compare_over_seeds,
    holm,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    wilcoxon_p,
)
from snnbench.records.statistics.published import (
    LEAST_SEEDS,
    Agreement,
    Figure,
    compare_with_figure,
    seeds_to_decide,
)
from snnbench.records.statistics.samples import (
    RESAMPLES,
    compare_on_samples,
    compare_over_seeds_and_samples,
    mcnemar_p,
    smallest_difference,
)
from snnbench.records.statistics.tasks import (
    Aggregate,
    Profile,
    Ranks,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    rank_rules,
)

__all__ = [
    "LEAST_SEEDS",
    "LEVEL",
    "RESAMPLES",
    "Aggregate",
    "Agreement",
    "Comparison",
    "Figure",
    "Interval",
    "Profile",
    "Ranks",
    "as_family",
    "compare_on_samples",
    "compare_over_seeds",
    "compare_over_seeds_and_samples",
    "compare_with_figure",
    "holm",
    "interquartile_mean",
    "mcnemar_p",
    "mean",
    "performance_profile",
    "pooled_wilson_interval",
    "probability_of_improvement",
    "rank_rules",
    "seeds_needed",
    "seeds_to_decide",
    "sign_flip_p",
    "smallest_difference",
    "smallest_p",
    "standard_deviation",
    "t_interval",
    "wilcoxon_p",
    "wilson_interval",
]
