"""Where scores come from: what is said beside them in every file and picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["PROVENANCE", "columns_of", "made_now", "meta_of", "sentence"]

# Columns of the CSV form, in order.
PROVENANCE = (
    "data", "n", "classes", "width", "precision", "perturb", "normalize", "layers", "options",
    "weighted", "permutations", "seed", "jaxte", "date", "p_recommended",
)  # fmt: skip
# column -> key of `Ranking.meta`, model -> number, and its type
_BY_MODEL: dict[str, tuple[str, type]] = {
    "n": ("n", int), "width": ("widths", int), "p_recommended": ("p_best", float),
}  # fmt: skip
_FOLDED = ("best", "mean")  # of layers, which have the widths, "model@layer"


def made_now() -> dict[str, str]:
    """Version and time."""
    from jaxte import __version__

    return {"jaxte": __version__, "date": datetime.now(UTC).isoformat(timespec="seconds")}


def columns_of(meta: Mapping[str, Any], model: str, metric: str) -> dict[str, Any]:
    """What a line of the CSV form says of where its score comes from."""
    options = meta.get("options", {}).get(metric)
    own = {
        **meta,
        "data": meta.get("data") or meta.get("source"),
        **{name: meta.get(key, {}).get(model) for name, (key, _) in _BY_MODEL.items()},
        "classes": meta.get("num_classes"),
        "options": json.dumps(options, default=str) if options else None,
    }
    if meta.get("layers") in _FOLDED:
        named = ((name.rpartition("@"), width) for name, width in meta.get("widths", {}).items())
        layers = {layer: width for (whose, at, layer), width in named if at and whose == model}
        own["width"] = json.dumps(layers) if layers else own["width"]
    return {name: own[name] for name in PROVENANCE if own.get(name) is not None}


def meta_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What `columns_of` wrote into lines, read back."""
    meta: dict[str, Any] = {}
    for record in records:
        model, metric = str(record["model"]), str(record["metric"])
        for name, (key, kind) in _BY_MODEL.items():
            text = str(record.get(name) or "")
            if text.startswith("{"):
                numbers = {f"{model}@{layer}": kind(n) for layer, n in json.loads(text).items()}
            else:
                numbers = {model: kind(text)} if text else {}
            if numbers:
                meta.setdefault(key, {}).update(numbers)
        if record.get("options"):
            meta.setdefault("options", {})[metric] = json.loads(record["options"])
        if record.get("classes"):
            meta["num_classes"] = int(record["classes"])
        meta |= {name: int(record[name]) for name in ("permutations", "seed") if record.get(name)}
        if record.get("weighted"):
            meta["weighted"] = True
        if record.get("data"):
            meta["source"] = record["data"]
        plain = ("precision", "perturb", "normalize", "layers", "jaxte", "date")
        meta |= {name: record[name] for name in plain if record.get(name)}
    return meta


def sentence(meta: Mapping[str, Any]) -> str:
    """The same for a whole ranking, in one line; "" where nothing is known."""
    parts = [
        _range(meta.get("n", {}), "rows"),
        "weighted" if meta.get("weighted") else "",
        f"{meta['num_classes']} classes" if meta.get("num_classes") else "",
        _range(meta.get("widths", {}), "columns"),
        str(meta.get("precision", "")),
        f"perturbed by {meta['perturb']}" if meta.get("perturb") else "",
        f"normalised by {meta['normalize']}" if meta.get("normalize", "sum") != "sum" else "",
        f"layers: {meta['layers']}" if meta.get("layers") else "",
        *(
            f"{metric}: {', '.join(f'{key}={value}' for key, value in own.items())}"
            for metric, own in meta.get("options", {}).items()
            if own
        ),
        f"{meta['permutations']} permutations" if meta.get("permutations") else "",
        f"seed {meta['seed']}" if "seed" in meta else "",
        str(meta.get("date", "")),
    ]
    heads = (
        f"jaxte {meta['jaxte']}" if meta.get("jaxte") else "",
        str(meta.get("data") or meta.get("source", "")),
    )
    return ", ".join(part for part in (*heads, *parts) if part)


def _range(numbers: Mapping[str, int], unit: str) -> str:
    values = numbers.values()
    if not values:
        return ""
    lo, hi = min(values), max(values)
    return f"{lo} {unit}" if lo == hi else f"{lo} to {hi} {unit}"
