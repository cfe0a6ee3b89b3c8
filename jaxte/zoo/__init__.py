"""A zoo of small pre-trained Flax models, three target sets, and measured accuracies.

`import jaxte.zoo` loads neither Flax nor Optax; the functions that need them do. What is here was
made by `jaxte.zoo.build`, which can make it again from the original data.
"""

from jaxte.zoo.catalog import (
    Accuracy,
    Target,
    ZooModel,
    accuracies,
    extract_all,
    load,
    load_target,
    names,
    targets,
)

__all__ = [
    "Accuracy",
    "Target",
    "ZooModel",
    "accuracies",
    "extract_all",
    "load",
    "load_target",
    "names",
    "targets",
]
