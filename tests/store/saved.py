"""Files as other tools write them."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest


def torch_save(path: Path, value: Any) -> None:
    torch = pytest.importorskip("torch")

    def as_tensors(item: Any) -> Any:
        if isinstance(item, dict):
            return {name: as_tensors(one) for name, one in item.items()}
        if isinstance(item, list):
            return [as_tensors(one) for one in item]
        if isinstance(item, np.ndarray) and item.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(item.astype(np.float32)).to(torch.bfloat16)
        return torch.from_numpy(item.copy()) if isinstance(item, np.ndarray) else item

    torch.save(as_tensors(value), path)


def safetensors_save(path: Path, **tensors: np.ndarray) -> None:
    pytest.importorskip("safetensors.numpy").save_file(tensors, path)


def parquet_save(path: Path, columns: dict[str, Any]) -> None:
    pa, pq = (pytest.importorskip(name) for name in ("pyarrow", "pyarrow.parquet"))
    pq.write_table(pa.table(columns), path, row_group_size=13)


def lists(array: np.ndarray, kind: str = "list") -> Any:
    pa = pytest.importorskip("pyarrow")
    flat = pa.array(array.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
    offsets = np.arange(0, array.size + 1, array.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
