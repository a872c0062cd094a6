"""Scene points that a map remembers the looks of, and the pose in which a photo shows them best."""

from dsac.landmarks.alignment import Sightings, align, align_focal, sightings
from dsac.landmarks.answering import Remembered, answer
from dsac.landmarks.described import DescribedPoints
from dsac.landmarks.keypoints import Keypoints
from dsac.landmarks.landmarks import PATCH_RADIUS, Landmarks
from dsac.landmarks.look_alikes import LookAlikes, probabilities, support
from dsac.landmarks.matcher import Matcher
from dsac.landmarks.telling import Telling
from dsac.landmarks.view import SHORT_SIDE_PX, GreyView

__all__ = [
    "PATCH_RADIUS",
    "SHORT_SIDE_PX",
    "DescribedPoints",
    "GreyView",
    "Keypoints",
    "Landmarks",
    "LookAlikes",
    "Matcher",
    "Remembered",
    "Sightings",
    "Telling",
    "align",
    "align_focal",
    "answer",
    "probabilities",
    "sightings",
    "support",
]
