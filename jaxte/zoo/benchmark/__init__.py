"""The benchmark pool: thirty models, fifteen targets, and what each reached on each.

`import jaxte.zoo.benchmark` loads neither Flax nor Optax. Half the models are those of `jaxte.zoo`,
the others have their weights here; the targets are cut from original files by
`jaxte.zoo.benchmark.build`, which also measures; what was measured is accuracies.jsonl.
"""

from jaxte.zoo.benchmark.dispersion import by_target, summary
from jaxte.zoo.benchmark.records import Result, models, results, roots, targets

__all__ = ["Result", "by_target", "models", "results", "roots", "summary", "targets"]
