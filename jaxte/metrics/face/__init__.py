"""FaCe, and how evenly its classes overlap."""

from jaxte.metrics.face.metric import FaceTerms, face, face_from_moments, face_terms

__all__ = ["FaceTerms", "face", "face_from_moments", "face_terms"]
