"""The faults that the tests must catch: one a paragraph, by what a user would see or where it is.

The text is searched for in the whole package, so that files may be moved; where code is rewritten,
`mutation.py` says which fault has lost its place.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One way to be wrong, and the tests that must notice."""

    name: str
    text: str  # occurs exactly once in the package
    replacement: str
    tests: tuple[str, ...]  # arguments of pytest


QUERIES = "tests/test_landmark_queries.py"
LOCALIZER = "tests/test_localizer.py"

FAULTS = [
    # ---- queries ---------------------------------------------------------------------------------
    Fault(
        "the landmarks' pose is never taken",
        "return fine if fine.success and not (coarse.success and",
        "return fine if False and not (coarse.success and",
        (QUERIES,),
    ),
    Fault(
        "all photos of a batch are aligned to the first",
        "images[i], camera, self.regressor.zoom(camera), colored",
        "images[0], camera, self.regressor.zoom(camera), colored",
        (QUERIES,),
    ),
    Fault(
        "depth is looked up in the ideal camera's pixels",
        'in_photos = camera.to("cpu", torch.float64).project(rays)',
        'in_photos = camera.pinhole.to("cpu", torch.float64).project(rays)',
        ("tests/test_depth_queries.py", "tests/datasets/test_registered_depth.py"),
    ),
    Fault(
        "of two estimates the surer counts less",
        "step = covariance @ (weights[1] @ apart)",
        "step = covariance @ (weights[0] @ apart)",
        ("tests/ransac/test_fusion.py",),
    ),
    Fault(
        "alignment without the lens's zoom",
        "images[i], camera, self.regressor.zoom(camera), colored",
        "GreyView.of(images[i], camera, 1.0)",
        (QUERIES,),
    ),
    Fault(
        "inliers of the coarse pose",
        "inliers = solver.inliers(found.estimate.cam_from_world, rows)",
        "inliers = solver.inliers(estimate[i : i + 1].cam_from_world, rows)",
        (QUERIES,),
    ),
    Fault(
        "photos are asked as they are and never turned",
        "turns = _TURNS[:1] if found.success else _TURNS",
        "turns = _TURNS[:1]",
        (QUERIES,),
    ),
    Fault(
        "keypoints of a turned photo are not turned back",
        "for _ in range(quarter_turns):  # clockwise",
        "for _ in range(0):  # clockwise",
        (QUERIES,),
    ),
    Fault(
        "matches need not be each other's best",
        "mutual = (similarity == highest[nearest]) &",
        "mutual = (similarity > -2) &",
        ("tests/landmarks/test_matching.py",),
    ),
    Fault(
        "a point that is shown already is taken again",
        "if covered[k]:",
        "if False:",
        ("tests/mapping/test_view_cover.py",),
    ),
    Fault(
        "the search for landmarks is left to the device",
        'cam_from_world.to("cpu"), _WIDE_RADIUS',
        "cam_from_world, _WIDE_RADIUS",
        (QUERIES,),
    ),
    Fault(
        "half a pixel of landmarks under distortion",
        "return camera.project(rays).reshape(*pixels.shape).float().numpy() - 0.5",
        "return camera.project(rays).reshape(*pixels.shape).float().numpy()",
        (QUERIES,),
    ),
    Fault(
        "half a pixel of the corners' rays",
        "plane = (self.pixels + 0.5 - camera",
        "plane = (self.pixels - camera",
        (QUERIES,),
    ),
    Fault(
        "the head's weights do not reach the solver",
        "camera, weights=weights, grid=grid",
        "camera, weights=None, grid=grid",
        (LOCALIZER,),
    ),
    Fault(
        "photos of any lens at the same size",
        "return 1.0 if 0.8 < zoom < 1.25 else min(max(zoom, 0.5), 3.0)",
        "return 1.0",
        (LOCALIZER,),
    ),
    Fault(
        "cells' pixels as if the lens did not distort",
        "made = working.undistort(pixels).to(*to)",
        "made = pixels.to(*to)",
        (LOCALIZER,),
    ),
    Fault(
        "cells one pixel too low",
        "rows = (torch.arange(size[1] // stride, dtype=torch.float64) + 0.5) * stride",
        "rows = (torch.arange(size[1] // stride, dtype=torch.float64) + 0.5) * stride + 1",
        (LOCALIZER,),
    ),
    Fault("any confidence counts", "\nLEAST_CONFIDENCE = 0.5", "\nLEAST_CONFIDENCE = 0.0", (QUERIES,)),
    # ---- mapping ---------------------------------------------------------------------------------
    Fault(
        "half a pixel of SIFT's keypoints",
        "pixels = np.array([point.pt for point in points]) + 0.5 - 0.25",
        "pixels = np.array([point.pt for point in points]) - 0.25",
        ("tests/mapping/test_triangulation.py",),
    ),
    Fault(
        "half a pixel of rendered views",
        "pixels.float().numpy() - 0.5,",
        "pixels.float().numpy(),",
        ("tests/mapping/test_views.py",),
    ),
    Fault(
        "the pose of a view without its roll",
        "view_from_cam @ frame.cam_from_world,",
        "frame.cam_from_world,",
        ("tests/mapping/test_views.py",),
    ),
    Fault(
        "fine-tuning also learns from cells beside the photo",
        "weights=seen.weights * inside",
        "weights=seen.weights",
        ("tests/mapping/test_fine_tuning.py",),
    ),
    Fault(
        "validation frames are trained on",
        "(views.validation if i in held_out else views.training).append(seen)",
        "views.training.append(seen)\n"
        "            if i in held_out:\n                views.validation.append(seen)",
        ("tests/mapping/test_fine_tuning.py",),
    ),
    # ---- recordings ------------------------------------------------------------------------------
    Fault(
        "photos of EXIF orientation 5 are flipped, those of 7 are not",
        "if orientation in (2, 3, 6, 7):\n        image = cv2.flip(image, 1)\n"
        "    return cv2.flip(image, 0) if orientation in (3, 4, 7, 8) else image",
        "if orientation in (2, 3, 6, 5):\n        image = cv2.flip(image, 1)\n"
        "    return cv2.flip(image, 0) if orientation in (3, 4, 5, 8) else image",
        ("tests/datasets/test_image.py",),
    ),
    Fault(
        "of depths that meet in a pixel the last wins",
        "np.minimum.at(registered, target, z[seen])",
        "registered[target] = z[seen]",
        ("tests/datasets/formats/test_seven_scenes.py",),
    ),
    Fault(
        "registered depth half a pixel off",
        "x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)\n    x, y = x * (SIZE",
        "x, y = np.meshgrid(np.arange(width), np.arange(height))\n    x, y = x * (SIZE",
        ("tests/datasets/formats/test_seven_scenes.py",),
    ),
    # ---- geometry and solver ---------------------------------------------------------------------
    Fault(
        "a camera's centre on the other side of the origin",
        "return -(self.rotation.mT @ self.translation[..., None])[..., 0]",
        "return (self.rotation.mT @ self.translation[..., None])[..., 0]",
        ("tests/geometry/test_pose.py",),
    ),
    Fault(
        "inliers to twice the threshold",
        "< residual.threshold) & used",
        "< 2 * residual.threshold) & used",
        (QUERIES,),
    ),
    Fault(
        "the reference's covariance is three times too large",
        "size = apart * effect.clamp_min(1)",
        "size = 3 * apart * effect.clamp_min(1)",
        ("tests/ransac/test_solver.py",),
    ),
    Fault(
        "the kernel's covariance is three times too large",
        "size = apart_freed * max(",
        "size = 3 * apart_freed * max(",
        ("tests/ransac/test_backends.py", "tests/kernels/search/test_rgb.py"),
    ),
    Fault(
        "soft inliers by the square of their weight",
        "return (torch.sigmoid(5.0 - errors * (5.0 / threshold)) @ weights[..., None])[..., 0]",
        "return (torch.sigmoid(5.0 - errors * (5.0 / threshold)) @ weights[..., None] ** 2)[..., 0]",
        ("tests/kernels/twins/test_face.py",),
    ),
    # ---- evaluation ------------------------------------------------------------------------------
    Fault(
        "a pose counts as near by its rotation alone",
        "return (self.rotation_deg < threshold.rotation_deg) & (self.translation_m < threshold.translation_m)",
        "return self.rotation_deg < threshold.rotation_deg",
        ("tests/evaluation/test_metrics.py",),
    ),
]
