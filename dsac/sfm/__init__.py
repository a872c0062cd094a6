"""Structure from motion: photos in, the same photos with cameras and poses out; COLMAP does it, `pycolmap`.

photos ─▶ features ─▶ pairs that look alike ─▶ matches, verified ─▶ COLMAP's mapper ─▶ Frames with poses
"""

from dsac.sfm.photos import UnposedPhotos, load_unposed
from dsac.sfm.reconstruction import SfmProgress, reconstruct, reconstruct_scene

__all__ = ["SfmProgress", "UnposedPhotos", "load_unposed", "reconstruct", "reconstruct_scene"]
