"""Features on disk: stores that lose nothing, and the layouts that people already have.

A store is a directory with the features of one model on one data set: `manifest.json` says what
they are, shards of plain `.npy` files hold them, and nothing in it is ever unpickled.
"""

from jaxte.store.arrays import Parts
from jaxte.store.imports import import_features
from jaxte.store.journal import StoredBatch as Batch
from jaxte.store.layouts import FeatureSet, read_features
from jaxte.store.manifest import is_store
from jaxte.store.memory import MemoryWriter
from jaxte.store.reader import FeatureStore
from jaxte.store.writer import Writer

__all__ = [
    "Batch",
    "FeatureSet",
    "FeatureStore",
    "MemoryWriter",
    "Parts",
    "Writer",
    "import_features",
    "is_store",
    "read_features",
]
