"""From a model and data to features, or to their moments alone."""

from jaxte.extraction._stream import stream

__all__ = ["stream"]
