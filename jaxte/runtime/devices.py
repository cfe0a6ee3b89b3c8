"""Which device computes: the mesh's, that of arrays which lie on one, or the default one."""

from __future__ import annotations

import re
from typing import Any

import jax

__all__ = ["default_device", "device_of", "has_fast_float64", "is_placed", "platform_of"]

# GPUs whose float64 runs at half the speed of float32 or faster; others are 16 to 64 times slower.
# A name is a word of its own: an RTX A1000 is no A100, an RTX A3000 no A30.
_FAST_FLOAT64 = re.compile(
    r"(?<![A-Z0-9])(G?P100|G?V100S?|TITAN V|A30X?|A100X?|A800|H100|G?H200|G?B100|G?B200"
    r"|MI(50|60|100|210|250X?|300[ACX]?|325X|350X|355X))(?![A-Z0-9])",
    re.IGNORECASE,
)


def device_of(*arrays: Any, mesh: jax.sharding.Mesh | None = None) -> Any:
    """The `jax.Device`, or the first of those, on which a computation with these arrays runs."""
    if mesh is not None:
        return mesh.devices.flat[0]
    for array in arrays:
        if is_placed(array):
            return min(array.sharding.device_set, key=lambda one: one.id)
    default = default_device()
    if default is None or isinstance(default, str):  # the name of a platform
        return jax.local_devices(backend=default)[0]
    return default


def default_device() -> Any:
    """What `jax.default_device` is set to: a `jax.Device`, the name of a platform, or None."""
    return getattr(jax.config, "jax_default_device")  # noqa: B009 - it has no type


def platform_of(*arrays: Any, mesh: jax.sharding.Mesh | None = None) -> str:
    """The platform of `device_of`: "cpu", "gpu", "tpu"."""
    return str(device_of(*arrays, mesh=mesh).platform)


def is_placed(array: Any) -> bool:
    """Whether an array lies on an accelerator, or on several devices, and is computed with there.

    One in the memory of the host goes to the default device, as NumPy's do.
    """
    if not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer):
        return False
    devices: Any = array.sharding.device_set  # JAX has no type for a device
    return len(devices) > 1 or any(device.platform != "cpu" for device in devices)


def has_fast_float64(device: Any) -> bool:
    """Whether float64 is worth its time: on CPUs, and on GPUs that are made for it."""
    if device.platform == "cpu":
        return True
    return device.platform != "tpu" and _FAST_FLOAT64.search(device.device_kind) is not None
