"""FaCe, and how evenly its classes overlap."""

from jaxte.metrics.face.metric import FACE, FaceTerms, face, face_from_moments, face_terms

__all__ = ["FACE", "FaceTerms", "face", "face_from_moments", "face_terms"]
