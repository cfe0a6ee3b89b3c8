"""Arrays of any library as arrays of JAX or NumPy, and features as numbers."""

from __future__ import annotations

import sys
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxte.errors import InputError, said

__all__ = ["as_array", "as_features", "is_array"]

_EXACT = 2**53  # integers up to here are floats
_GPUS = (2, 10)  # CUDA and ROCm, as DLPack numbers kinds of devices


def is_array(value: Any) -> bool:
    """Whether a value is one array, of any library, rather than batches of them."""
    kinds = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")
    return any(hasattr(value, kind) for kind in kinds) or _is_sparse(value)


def as_array(value: Any, what: str) -> Any:
    """An array of JAX as it is, one of another library on a GPU of JAX's as such an array.

    Anything else as a NumPy array of native byte order.
    """
    if isinstance(value, jax.Array):
        return value
    if (there := _on_gpu(value)) is not None:
        return there
    if _is_sparse(value):
        raise InputError(
            f"{what}: {type(value).__name__} is sparse: give a dense array, as .toarray(), "
            ".to_dense() or .todense() make it"
        )
    try:
        array = _on_host(value)
    except InputError:
        raise
    except Exception as error:  # whatever a user's __array__ raises
        if "inhomogeneous" in str(error):
            raise InputError(f"{what} are no array: the rows have different lengths") from None
        raise InputError(f"{what} cannot be made an array ({said(error)})") from error
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            row = int(np.argwhere(np.ma.getmaskarray(array))[0][0])
            raise InputError(
                f"{what} are a masked array with missing entries, first in row {row}: fill them "
                "(.filled(value)) or leave those rows out"
            )
        array = array.data
    array = np.asarray(array)  # no np.matrix and the like, which calculate in other ways
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_features(value: Any, what: str = "features", *, lazy: bool = False) -> Any:
    """Features as numbers that JAX can take; of any shape.

    Integers become floats, of which they must be exact values, so that none wraps around. With
    ``lazy`` a memory-mapped file of numbers is left as it is, to be read block by block.
    """
    if lazy and isinstance(value, np.memmap) and value.dtype.kind in "biuf":
        return value
    array = as_array(value, what)
    dtype = array.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        if dtype.itemsize <= 8 or isinstance(array, jax.Array):
            return array
        return narrowed(array, what)
    wide = getattr(dtype, "kind", "V") in "iu" and dtype.itemsize >= 4
    if wide and not isinstance(array, jax.Array):
        if array.size and max(-int(array.min()), int(array.max())) > _EXACT:
            row = int(np.argwhere((array > _EXACT) | (array < -_EXACT))[0][0])
            raise InputError(
                f"{what} hold integers beyond float range (2^53), first in row {row}: they would "
                "be rounded; scale them, or leave that column out"
            )
        return array.astype(np.float64)
    if jnp.issubdtype(dtype, jnp.integer) or dtype == np.bool_:
        return array
    if dtype == np.object_ and (numbers := _of_numeric_columns(value)) is not None:
        return numbers
    raise InputError(f"{what} have dtype {dtype}: {_remedy(array)}")


def _on_gpu(value: Any) -> jax.Array | None:
    """What lies on a GPU that JAX computes on, too, without a copy; None for all else."""
    if not hasattr(value, "__dlpack_device__") or isinstance(value, np.ndarray):
        return None
    try:
        kind, number = value.__dlpack_device__()
        if kind not in _GPUS:
            return None
        jax.devices("gpu")[number]
        if hasattr(value, "detach"):  # of torch
            value = value.detach().contiguous()
        return jnp.from_dlpack(value)
    except Exception:  # the host can have it, or will say why not
        return None


def of_torch(tensor: Any) -> np.ndarray:
    """A tensor of torch as a NumPy array, bfloat16 too, which NumPy does not know."""
    tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
    if str(tensor.dtype) != "torch.bfloat16":
        return np.asarray(tensor.numpy())
    return np.asarray(tensor.view(sys.modules["torch"].int16).numpy().view(jnp.bfloat16))


def _on_host(value: Any) -> np.ndarray:
    torch = sys.modules.get("torch")
    if torch is not None:
        if isinstance(value, torch.Tensor):
            return of_torch(value)
        if isinstance(value, list | tuple) and any(isinstance(v, torch.Tensor) for v in value):
            return np.stack([_on_host(v) for v in value])
    if isinstance(value, np.ma.MaskedArray | np.ndarray):
        return value
    if hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):
        value = value.get()  # CuPy copies to the host only when asked
    return np.asarray(value)


def _is_sparse(value: Any) -> bool:
    if hasattr(value, "toarray") or hasattr(value, "todense"):  # SciPy, PyData, JAX
        return True
    layout = getattr(value, "layout", None)  # of a tensor of torch
    return str(layout).startswith("torch.") and str(layout) != "torch.strided"


def narrowed(array: np.ndarray, what: str) -> np.ndarray:
    """Extended precision as float64."""
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float64)
    if (lost := np.isinf(narrow) & np.isfinite(array)).any():
        row = int(np.argwhere(lost)[0][0])
        raise InputError(f"{what} hold numbers beyond float64 in row {row}: scale them")
    return narrow


def _of_numeric_columns(value: Any) -> np.ndarray | None:
    """A table of pandas whose columns are numbers, of types that NumPy does not know."""
    kinds = getattr(value, "dtypes", None)
    kinds = [kinds] if hasattr(kinds, "kind") else kinds
    if not hasattr(value, "to_numpy") or kinds is None:
        return None
    if not all(getattr(kind, "kind", "O") in "iufb" for kind in kinds):
        return None
    return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan))


def _remedy(array: Any) -> str:
    """What to do about features that are no numbers."""
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        return "give real numbers, as jnp.abs(x), or real and imaginary parts side by side"
    if array.dtype == np.dtype("V2"):
        return "if this is bfloat16, say so: x.view(ml_dtypes.bfloat16)"
    if array.dtype.names:
        return "give its columns as one matrix, as np.lib.recfunctions.structured_to_unstructured"
    if array.dtype == np.object_ and array.ndim:
        for place, one in zip(np.ndindex(array.shape), array.flat, strict=True):
            if not isinstance(one, Real) or (isinstance(one, Integral) and abs(int(one)) > _EXACT):
                where = " column ".join(map(str, place))
                return f"give one rectangular numeric array [n, d]; row {where} holds {one!r:.50}"
        return "give one rectangular numeric array [n, d], as x.astype(float)"
    return "give numbers, one row for each sample [n, d]"
