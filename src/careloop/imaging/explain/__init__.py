"""Why a classifier says what it says of an image: tested maps, pictures of them, and similar past images."""

from careloop.imaging.explain.checked import Checked, check_explanations
from careloop.imaging.explain.explain import Explanation, explain
from careloop.imaging.explain.maps import Method
from careloop.imaging.explain.similar import PastImages, SimilarImages
from careloop.imaging.explain.validity import Validity

__all__ = [
    "Checked",
    "Explanation",
    "Method",
    "PastImages",
    "SimilarImages",
    "Validity",
    "check_explanations",
    "explain",
]
