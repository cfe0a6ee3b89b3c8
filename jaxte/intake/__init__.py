"""The one step from what users have to clean arrays: features to numbers, labels to classes.

Whatever takes features does so through here: metrics, `rank`, streams, moments, stores, data sets,
files. Arrays of JAX stay on their device; everything else becomes a NumPy array of native byte
order. What would lose something on the way is refused by name.
"""

from jaxte.intake.arrays import as_array, as_features, is_array
from jaxte.intake.classes import (
    ClassNumbers,
    check_classes,
    class_counts,
    class_names,
    listed,
    number_classes,
)
from jaxte.intake.labels import Labels, as_labels, clean_labels
from jaxte.intake.layers import join_layers

__all__ = [
    "ClassNumbers",
    "Labels",
    "as_array",
    "as_features",
    "as_labels",
    "check_classes",
    "class_counts",
    "class_names",
    "clean_labels",
    "is_array",
    "join_layers",
    "listed",
    "number_classes",
]
