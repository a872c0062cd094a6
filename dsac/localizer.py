"""The localizer: a map and a photo to a pose, and how far to trust it.

    localizer = Localizer.load("chess.dsac")
    answer = localizer.localize(image, camera)

A map has one region or many, each a map for itself (`dsac.map_localizer`). Of many those are asked that the
photo may be of: by its visual words, or by where the camera is known to be about (`dsac.regions`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.atlas import Atlas, Map, photos_for
from dsac.datasets import Frame, Frames
from dsac.datasets.given import batch_of
from dsac.datasets.given_cameras import one_camera
from dsac.datasets.given_depth import depth_of_batch
from dsac.errors import DsacError, MapFormatError
from dsac.geometry import Camera, Pose
from dsac.kernels import at_once, wait_until_compiled
from dsac.landmarks.answering import ENOUGH
from dsac.localization import Localization, Timing
from dsac.map_localizer import Clock, MapLocalizer, known_depth
from dsac.networks.encoder import Encoder
from dsac.ransac import Solver
from dsac.regions import Found, Regions
from dsac.regressor import CorrespondenceSource

T = TypeVar("T")
_Rows = Int[np.ndarray, " K"]  # of the regions that may be asked


class Localizer:
    """Localizes photos in a map, of one region or many. Not localized is an answer: `success` is False."""

    def __init__(
        self,
        scene_map: Map,
        *,
        encoder: Encoder | None = None,
        regressor: CorrespondenceSource | None = None,
        solver: Solver | None = None,
        depth_solver: Solver | None = None,
        device: torch.device | str = "cpu",
        memory_mb: float = 2000.0,
    ) -> None:
        """`encoder`: the one that the map was made with, when it does not ship with the package.

        `regressor` takes the place of the map's own, `solver` that of its scoring rule's, and photos with
        depth are for `depth_solver`. The modules are this localizer's own: the map stays as it is. Of many
        regions as many are kept as fit into `memory_mb`; a regressor of one's own is for one.
        Raises: `MapFormatError` when the encoder is not the map's, `ValueError` for both encoder and regressor,
        and for a regressor with many regions.
        """
        if encoder is not None and regressor is not None:
            raise ValueError("encoder: expected none beside a regressor, which has its own")
        if isinstance(scene_map, Atlas) and len(scene_map) == 1:
            scene_map = scene_map.regions[0].read()
        self.scene_map = scene_map
        self.device = torch.device(device)
        self._only: MapLocalizer | None = None
        self._regions: Regions | None = None
        if isinstance(scene_map, Atlas):
            if regressor is not None:
                raise ValueError(f"regressor: expected with a map of one region only, got {len(scene_map)}")
            self._regions = Regions(scene_map, self.device, solver, depth_solver, encoder, memory_mb)
        else:
            self._only = MapLocalizer(
                scene_map,
                encoder=encoder,
                regressor=regressor,
                solver=solver,
                depth_solver=depth_solver,
                device=device,
            )

    @staticmethod
    def load(
        path: str | Path,
        *,
        encoder: Encoder | None = None,
        solver: Solver | None = None,
        device: torch.device | str = "cpu",
        memory_mb: float = 2000.0,
    ) -> Localizer:
        """From a map file. Raises: `MapFormatError`."""
        atlas = Atlas.load(path)
        try:
            return Localizer(atlas, encoder=encoder, solver=solver, device=device, memory_mb=memory_mb)
        except MapFormatError as error:
            raise MapFormatError(f"{path}: {error}") from None

    @property
    def in_map(self) -> MapLocalizer:
        """What answers in the map's own frame. Raises: `DsacError` for a map of many regions."""
        if self._only is None:
            assert isinstance(self.scene_map, Atlas)
            number = len(self.scene_map)
            raise DsacError(f"expected a map of one region, got {number}: `dsac crop --regions` takes one out")
        return self._only

    @property
    def regressor(self) -> CorrespondenceSource:
        """Of a map of one region. Raises: `DsacError` for another."""
        return self.in_map.regressor

    @property
    def solver(self) -> Solver:
        """Of a map of one region. Raises: `DsacError` for another."""
        return self.in_map.solver

    @property
    def memory_used_mb(self) -> float:
        """By the regions that are in memory, about; 0 for a map of one region, which always is."""
        return 0.0 if self._regions is None else self._regions.used_mb

    def warm_up(self) -> None:
        """Wait until all that a photo needs is compiled, which is done once after an install.

        Without it the first answers are not waited for: they take seconds, until a process that compiles beside
        this one is done, and differ from later ones by rounding and other draws.
        Raises: `DsacError` when compiling fails.
        """
        wait_until_compiled()

    def localize(
        self,
        image: Any,
        camera: Any = None,
        *,
        depth: Any = None,
        depth_scale: float | None = None,
        bgr: bool = False,
        near: Sequence[float] | None = None,
        radius: float | None = None,
        prior: Pose | None = None,
    ) -> Localization:
        """The pose of one photo; or of B photos of one camera, and the answer's fields have that dimension.

        `image` is a path, bytes, an open file, a PIL image, an array (H, W, 3), (H, W, 4) or (H, W), RGB or in
        OpenCV's order if `bgr`, or a tensor (3, H, W); or B photos as a tensor (B, 3, H, W). Values are 8 bits
        or floats in [0, 1]. What EXIF data tell viewers to turn is turned, see `load_photos`.
        `camera` is a `Camera` or OpenCV's matrix K of that image. Without it, it is found as by `load_photos`:
        the mapping images' where they have the photo's shape, else the focal length of the EXIF data. What is
        not known exactly is solved with the pose (`Localization.focal_px`).
        `depth` along the optical axis, registered to the photo, makes the answer surer: an array (H, W) in
        metres, for B photos (B, H, W), or a file, see `load_photos`; 0, NaN and what is below are unknown, and
        where too little is known, or it contradicts the map, the answer is that without it.
        `near` and `radius` say where the camera is about, in the world's frame and unit: of a map of many
        regions those are asked that know of views so near, each in its own world.
        `prior`: from where one photo was taken, to some centimetres and degrees, `cam_from_world` of batch ():
        the landmarks seen from there are the answer where they clearly are found, in a third of the time; else
        it is that without. For photos that follow each other see `dsac.Tracker`.
        Raises: `ValueError` for an image, a camera or depth of another kind, and where a tensor's camera is of
        another image size; `DatasetError` for a file that cannot be read, and a camera or depth of another
        shape than the photo; `DsacError` for depth where the map's unit of length is not the metre.
        """
        if isinstance(image, Tensor) and (camera is not None or image.ndim == 4):
            among = self._among(near, radius)
            return self._localize_tensor(image, camera, bgr, depth, depth_scale, among, prior)
        photos = photos_for(self.scene_map, image, camera=camera, bgr=bgr, depth=depth, depth_scale=depth_scale)
        if len(photos) > 1:
            raise ValueError(
                f"image: expected one, got {len(photos)}: localize_frames(load_photos(...)) takes them"
            )
        return self._of_frame(photos, 0, self._among(near, radius), [] if prior is None else [prior])

    def _localize_tensor(
        self,
        image: Tensor,
        camera: Any,
        bgr: bool,
        depth: Any,
        depth_scale: float | None,
        among: _Rows,
        prior: Pose | None,
    ) -> Localization:
        images = batch_of(image)
        size = images.shape[-1], images.shape[-2]
        camera = one_camera(camera, size)
        if camera.size != size:
            raise ValueError(
                f"camera: expected {size[0]}×{size[1]} like the image, got {camera.size[0]}×{camera.size[1]}"
            )
        images = images.flip(-3) if bgr else images
        measured = None if depth is None else depth_of_batch(depth, depth_scale, len(images), camera)
        clock = Clock(self.device)
        with at_once():
            if prior is not None:
                if image.ndim == 4:
                    raise ValueError(f"prior: expected with one photo, got a batch of {len(images)}")
                known = self._from_prior("photo", images, camera, prior, among, ENOUGH, clock)
                if known is not None:
                    return known
            answer = self._localize("photo", images, camera, clock, measured, among)
        return answer if image.ndim == 4 else answer[0]

    def localize_frames(
        self,
        frames: Frames,
        *,
        use_depth: bool = False,
        near: Sequence[float] | None = None,
        radius: float | None = None,
    ) -> Iterator[Localization]:
        """Localize frames one by one, reading each when it is asked for.

        Their depth is not looked at, unless `use_depth`; see `localize`. Photos whose focal length is not known
        to some percent are localized without.
        """
        frames = frames if use_depth else frames.without_depth()
        among = self._among(near, radius)
        for i in range(len(frames)):
            yield self._of_frame(frames, i, among)

    def follow(self, photo: Frames, priors: Sequence[Pose], least: float = ENOUGH) -> Localization:
        """One photo that was taken soon after others, see `Tracker`.

        The landmarks seen from the first of the `priors` (`cam_from_world`, batch ()) are the answer from which
        they are found with more confidence than `least`; else it is that without.
        """
        return self._of_frame(photo, 0, self._among(None, None), priors, least)

    def _of_frame(
        self, frames: Frames, index: int, among: _Rows, priors: Sequence[Pose] = (), least: float = ENOUGH
    ) -> Localization:
        """Of one frame, with its depth where it has some."""
        clock = Clock(self.device)
        frame = frames[index]
        clock.lap("decode")
        images, answer = frame.image[None], None
        with at_once():
            if frame.focal in ("known", "assumed"):
                tried = (
                    self._from_prior(frame.name, images, frame.camera, prior, among, least, clock)
                    for prior in priors
                )
                answer = next((found for found in tried if found is not None), None)
            if answer is None and frame.focal == "known":
                depth = None if frame.depth is None else frame.depth[None]
                answer = self._localize(frame.name, images, frame.camera, clock, depth, among)[0]
            elif answer is None:
                answer = self._localize_and_focus(frame, clock, among)
        larger = frames.camera(index).size[0] / frame.camera.size[0]  # large photos are decoded smaller
        focal = larger * answer.focal_px, larger * answer.focal_sigma_px
        return replace(answer, focal_px=focal[0], focal_sigma_px=focal[1])

    # ---- stages ----------------------------------------------------------------------------------

    def _among(self, near: Sequence[float] | None, radius: float | None) -> _Rows:
        """The regions that may be asked. Raises: `ValueError` for no place, `DsacError` where none is near."""
        if (near is None) != (radius is None):
            raise ValueError("near: expected with a radius, and a radius with it")
        if near is None or radius is None or self._regions is None:
            return np.arange(1 if self._regions is None else len(self._regions.atlas))
        place = np.array(near, dtype=np.float64)
        if place.shape != (3,) or not np.isfinite(place).all() or not radius > 0:
            raise ValueError(f"near: expected x, y, z and a radius above 0, got {near!r} and {radius!r}")
        among = self._regions.near(place.tolist(), radius)
        if len(among) == 0:
            raise DsacError(f"near: no region of the map has a view within {radius:g} of {place.tolist()}")
        return among

    def _localize(
        self,
        name: str,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        clock: Clock,
        depth: Float[Tensor, "B H W"] | None,
        among: _Rows,
    ) -> Localization:
        depth = known_depth(depth)
        if self._regions is not None:
            found = Found.cat(self._regions.ask(images, camera, depth, among, clock))
        else:
            found = Found.by(self.in_map, self.in_map.estimate(images, camera, depth, clock))
        return self._answer(name, camera, 0.0, found, clock)

    def _from_prior(
        self,
        name: str,
        images: Float[Tensor, "1 3 H W"],
        camera: Camera,
        prior: Pose,
        among: _Rows,
        least: float,
        clock: Clock,
    ) -> Localization | None:
        """By the landmarks seen from about there, where that is surer than `least`."""
        if prior.shape != ():
            raise ValueError(f"prior: expected one pose, got a batch {tuple(prior.shape)}")
        prior = prior.to("cpu", torch.float64)
        if self._regions is not None:
            found = self._regions.from_prior(images, camera, prior, among, clock)
        else:
            there = self.in_map.scene_map.info.world_from_map.inverse().pose(prior)
            estimated = self.in_map.from_prior(images, camera, there, clock)
            found = None if estimated is None else Found.by(self.in_map, estimated)
        if (
            found is None
            or not found.estimated.estimate.success
            or found.estimated.estimate.confidence <= least
        ):
            return None
        return replace(self._answer(name, camera, 0.0, found, clock)[0], by_prior=True)

    def _localize_and_focus(self, frame: Frame, clock: Clock, among: _Rows) -> Localization:
        """Pose and focal length of one photo."""
        if self._regions is not None:
            found, focused = self._regions.focus(frame, among, clock)
        else:
            focused = self.in_map.focused(frame, clock)
            found = Found.by(self.in_map, focused.estimated)
        return self._answer(frame.name, focused.camera, focused.log_sigma, found, clock)[0]

    def _answer(
        self,
        name: str,
        camera: Camera,
        focal_sigma: float,  # of the logarithm of the focal length
        found: Found,
        clock: Clock,
    ) -> Localization:
        focal_px = camera.focal_px[0].item()
        estimate, world = found.estimated.estimate, found.world_from_map
        return Localization(
            name,
            world.pose(estimate.cam_from_world),
            world.covariance(estimate.covariance),
            estimate.confidence,
            estimate.success,
            estimate.inliers,
            found.estimated.rows,
            Timing(*(1e3 * clock.seconds[stage] for stage in ("decode", "encode", "head", "solve", "align"))),
            world,
            focal_px,
            focal_px * focal_sigma,
            _common([info.metric for info in found.infos]),
            found.others,
            region=found.regions,
            world=tuple(info.world for info in found.infos),
            geo_origin=_common([info.geo for info in found.infos]),
        )


def _common(values: Sequence[T]) -> T | None:
    """What all say."""
    return values[0] if all(value == values[0] for value in values) else None
