"""Data sets in: from tensorflow-datasets, Hugging Face, folders, tables, arrays and the zoo.

`load` makes a `Dataset` from a specification, ``KIND:WHERE[?OPTION=VALUE[&OPTION=VALUE...]]``:

========================================  ========================================================
``tfds:NAME[/CONFIG][:VERSION]/SPLIT``    tensorflow-datasets, without TensorFlow
``hf:NAME_OR_DIR[:CONFIG]/SPLIT``         datasets of Hugging Face: of the hub, or a directory
``folder:DIR``                            images, in one folder per class
``csv:FILE  parquet:FILE  jsonl:FILE``    tables: texts, words, or paths of images, and labels
``npz:FILE``                              two arrays
``zoo:TARGET[/train or /test]``           the target sets of `jaxte.zoo`
========================================  ========================================================

SPLIT takes slices, as ``train[:5000]``, ``train[10%:20%]`` or ``train[:10%]+test``. The options
are those of `load`.
"""

from jaxte.data.dataset import TASKS, Dataset
from jaxte.data.loading import as_dataset, load
from jaxte.data.tasks import Rows, pixel_budget, pixel_rows, to_grid, token_rows

__all__ = [
    "TASKS",
    "Dataset",
    "Rows",
    "as_dataset",
    "load",
    "pixel_budget",
    "pixel_rows",
    "to_grid",
    "token_rows",
]
