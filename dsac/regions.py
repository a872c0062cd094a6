"""The maps of an atlas as a localizer asks them: loaded when asked, the likeliest first, one answer of several.

A photo's visual words order the regions. Those that are about as likely as the first are all looked at, since
rooms may look alike; others only where that gives no clear pose. What is still open is searched for in the
likeliest. Where several regions find the photo in different places, how completely each place appears in it
says how likely it is there, as between look-alikes of one map. A pose by one of k regions that are as likely
must be so much surer: the odds of its confidence are divided by k, of those that did not find the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from dsac.atlas import Atlas
from dsac.datasets import Frame
from dsac.errors import DsacError
from dsac.geometry import Camera, Pose, Similarity
from dsac.landmarks.answering import ENOUGH, SURE, as_likely, share_of_cells, trusted
from dsac.landmarks.look_alikes import probabilities
from dsac.localization import Alternative
from dsac.map_info import MapInfo
from dsac.map_localizer import Clock, Estimated, FirstLook, Focused, MapLocalizer, encoded_by
from dsac.networks.encoder import Encoder, load_encoder
from dsac.networks.heads import LinearHead
from dsac.ransac import Correspondences, PoseEstimate, Solver, are_same
from dsac.regressor import Regressor
from dsac.visual_words import ENCODER, SHORT_SIDE_PX, Gate


class Found(NamedTuple):
    """The answers for photos, in the frame of a map."""

    regions: tuple[str, ...]  # which answered for each photo
    world_from_map: Similarity
    estimated: Estimated
    others: tuple[tuple[Alternative, ...], ...]  # of each photo: where else it may have been taken
    infos: tuple[MapInfo, ...]  # of each photo: what the map that answered says about itself

    @staticmethod
    def by(localizer: MapLocalizer, estimated: Estimated, region: str = "") -> Found:
        info = localizer.scene_map.info
        others = tuple(
            tuple(alternative(info, pose, chance) for pose, chance in of_photo) for of_photo in estimated.others
        )
        return Found((region,) * len(others), info.world_from_map, estimated, others, (info,) * len(others))

    @staticmethod
    def cat(each: Sequence[Found]) -> Found:
        """In one frame: theirs where it is the same, else the world's.

        Raises: `DsacError` where maps of different kinds answer for photos that are one batch.
        """
        first = each[0]
        if len(each) == 1:
            return first
        same = all(found.world_from_map.is_same(first.world_from_map) for found in each)
        of_each = [found.estimated if same else _in_world(found) for found in each]
        rows = [estimated.rows for estimated in of_each]
        if len({(len(r.pixels[0]), r.modes, r.camera.size) for r in rows}) > 1:
            raise DsacError("photos: expected to be asked one by one of maps of different kinds, got a batch")
        return Found(
            tuple(name for found in each for name in found.regions),
            first.world_from_map if same else Similarity.identity(),
            Estimated(PoseEstimate.cat([e.estimate for e in of_each]), Correspondences.cat(rows), ()),
            tuple(others for found in each for others in found.others),
            tuple(info for found in each for info in found.infos),
        )


def alternative(info: MapInfo, estimate: PoseEstimate, chance: float) -> Alternative:
    """One photo's other pose, in the world of the map that says this about itself."""
    world_from_map, pose, covariance = info.world_from_map, estimate.cam_from_world, estimate.covariance
    return Alternative(
        world_from_map.pose(pose)[0], world_from_map.covariance(covariance)[0], chance, info.world
    )


def _in_world(found: Found) -> Estimated:
    """The same poses and rows in the world's frame; scene points have the precision that is left there."""
    world, (estimate, rows, others) = found.world_from_map, found.estimated
    points = (world @ rows.scene_points).to(rows.scene_points)
    moved = replace(
        estimate,
        cam_from_world=world.pose(estimate.cam_from_world).to(estimate.covariance),
        covariance=world.covariance(estimate.covariance),
    )
    return Estimated(moved, replace(rows, scene_points=points), others)


class _Place(NamedTuple):
    """Where a photo was taken, as one region says."""

    region: int
    estimated: Estimated  # of one photo
    chance: float = 1.0  # that it is this place, if it is one that was found

    @property
    def estimate(self) -> PoseEstimate:
        return self.estimated.estimate

    @property
    def is_sure(self) -> bool:
        return bool(self.estimate.success) and self.estimate.confidence.item() > SURE

    @property
    def rank(self) -> tuple[bool, float]:
        return bool(self.estimate.success), self.estimate.confidence.item()


@dataclass(eq=False)
class Regions:
    """The regions of an atlas, as many in memory as the budget allows, each a `MapLocalizer`."""

    atlas: Atlas
    device: torch.device
    solver: Solver | None = None  # in place of each map's own
    depth_solver: Solver | None = None
    encoder: Encoder | None = None  # of the maps that were made with one that does not ship
    memory_mb: float = 2000.0
    _loaded: OrderedDict[int, tuple[MapLocalizer, float]] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._encoder = load_encoder(ENCODER, self.device)  # which most regions share
        head = LinearHead(self._encoder.num_features).to(self.device)  # which nobody asks
        self._eyes = Regressor(self._encoder, head, SHORT_SIDE_PX)
        self._gate = Gate([region.words for region in self.atlas.regions])
        self._centers = [
            np.zeros((0, 3)) if region.words is None
            else (region.info.world_from_map @ region.words.centers).numpy()
            for region in self.atlas.regions
        ]  # fmt: skip

    def __getitem__(self, row: int) -> MapLocalizer:
        """Read from the file where it is not in memory; the longest unasked make room for it.

        Raises: `MapFormatError` for a damaged region.
        """
        if row in self._loaded:
            self._loaded.move_to_end(row)
            return self._loaded[row][0]
        region = self.atlas.regions[row]
        scene_map = region.read()
        encoder = next(
            (e for e in (self.encoder, self._encoder) if e is not None and e.id == scene_map.info.encoder_id),
            None,
        )
        made = MapLocalizer(
            scene_map,
            encoder=encoder if scene_map.encoder is None else None,
            solver=self.solver,
            depth_solver=self.depth_solver,
            device=self.device,
        )
        holds = region.holds
        size = _BYTES_A_VALUE * holds.num_values + _BYTES_A_LANDMARK * holds.num_landmarks
        self._loaded[row] = made, (size + _BYTES_A_POINT * holds.num_described_points) / 1e6
        while len(self._loaded) > 1 and self.used_mb > self.memory_mb:
            self._loaded.popitem(last=False)
        return made

    @property
    def used_mb(self) -> float:
        """By the regions that are in memory, about."""
        return sum(mb for _, mb in self._loaded.values())

    def near(self, place: Sequence[float], radius: float) -> Int[np.ndarray, " K"]:
        """Those with a mapping camera within the radius (in the world's unit), and those that know of none.

        Worlds do not count: of regions that are not in one, each is asked for the place in its own.
        """
        there = np.array(place, dtype=np.float64)
        return np.array(
            [
                row
                for row, centers in enumerate(self._centers)
                if len(centers) == 0 or np.linalg.norm(centers - there, axis=1).min() <= radius
            ],
            dtype=np.int64,
        )

    def from_prior(
        self,
        images: Float[Tensor, "1 3 H W"],
        camera: Camera,
        prior: Pose,
        among: Int[np.ndarray, " K"],
        clock: Clock,
    ) -> Found | None:
        """The best answer by the landmarks of the regions that know of views nearest to a pose (batch ()) in
        their world. None where they have no landmarks.
        """
        there, best = prior.center.numpy(), None
        apart = [np.linalg.norm(self._centers[row] - there, axis=1).min(initial=np.inf) for row in among]
        for row in among[np.argsort(apart, kind="stable")][:_MOST_FROM_PRIOR].tolist():
            asked, world = self[row], self.atlas.regions[row].info.world_from_map
            estimated = asked.from_prior(images, camera, world.inverse().pose(prior), clock)
            if estimated is None:
                continue
            place = _Place(row, estimated)
            if best is None or place.rank > best.rank:
                best = place
            if place.is_sure:
                break
        return None if best is None else self._answer([best])

    # ---- photos of known focal length ----------------------------------------------------------------

    def ask(
        self,
        images: Float[Tensor, "B 3 H W"],
        camera: Camera,
        depth: Float[Tensor, "B H W"] | None,
        among: Int[np.ndarray, " K"],
        clock: Clock,
    ) -> list[Found]:
        """An answer for each photo by some of the regions. One that several photos ask gets them together."""
        encoded = {encoded_by(self._eyes, camera): self._seen(images, camera)}
        order = [self._likely(features, among) for features in next(iter(encoded.values()))]
        clock.lap("encode")
        looks: list[dict[int, FirstLook]] = [{} for _ in images]
        for k in range(max(len(scores) for scores in order)):
            photos_of: dict[int, list[int]] = {}
            for photo, scores in enumerate(order):
                if k < len(scores) and not _is_settled(looks[photo], scores, k):
                    photos_of.setdefault(list(scores)[k], []).append(photo)
            for row, photos in photos_of.items():
                asked, of_depth = self[row], None if depth is None else depth[photos]
                kind = asked.encodes(camera)
                features = (
                    encoded[kind][photos] if kind in encoded else asked.encode(images[photos], camera, of_depth)
                )
                clock.lap("encode")
                look = asked.first(images[photos], camera, features, of_depth, clock)
                for i, photo in enumerate(photos):
                    looks[photo][row] = look.of(i)
        return [self._chosen(of_photo, scores, clock) for of_photo, scores in zip(looks, order, strict=True)]

    def _seen(self, images: Float[Tensor, "B 3 H W"], camera: Camera) -> Float[Tensor, "B C h w"]:
        with torch.inference_mode():
            return self._eyes.encode(images, camera)

    def _likely(self, features: Float[Tensor, "C h w"], among: Int[np.ndarray, " K"]) -> dict[int, float]:
        """Scores of the regions that a photo is asked of, the highest first."""
        scores = self._gate.scores(features)
        best = among[np.argsort(-scores[among], kind="stable")][:_MOST_ASKED]
        least = scores[best[np.isfinite(scores[best])]].max(initial=-np.inf) - _UNLIKELY
        return {int(row): float(scores[row]) for row in best if scores[row] >= least}

    def _chosen(self, looks: dict[int, FirstLook], scores: dict[int, float], clock: Clock) -> Found:
        """Of what regions said of one photo, which are in the order in which they were asked."""
        clear = [row for row, look in looks.items() if look.is_clear]
        # of equals the likeliest first
        open_ones = sorted(looks, key=lambda row: not looks[row].found[0].success)
        finished: list[_Place] = []
        for row in clear or open_ones[:_MOST_SEARCHED]:
            finished.append(_Place(row, self[row].finish(looks[row], clock)))
            if not clear and finished[-1].is_sure:
                break
        finished = [self._doubted(place, finished, scores) for place in finished]
        found = [place for place in finished if place.estimate.success]
        if len(found) > 1:
            found = self._by_evidence(looks, found)
            clock.lap("align")
        return self._answer(found or [max(finished, key=lambda place: place.estimate.confidence.item())])

    def _doubted(self, place: _Place, finished: list[_Place], scores: dict[int, float]) -> _Place:
        """The place as one of those that regions as likely may know as well, unless they found the same."""
        least = scores[place.region] - _AS_LIKELY
        agree = {other.region for other in finished if other.estimate.success and self._are_same(place, other)}
        rivals = [row for row, score in scores.items() if score > least and row not in (agree | {place.region})]
        return place._replace(estimated=_one_of(1 + len(rivals), place.estimated))

    def _by_evidence(self, looks: dict[int, FirstLook], places: list[_Place]) -> list[_Place]:
        """Different ones with their chances, the likeliest first; of those that are one the most exact."""
        supports = [self[place.region].support(looks[place.region], place.estimate) for place in places]
        shares = [share_of_cells(place.estimated.rows, place.estimate) for place in places]
        chances = probabilities(np.zeros((len(places), len(places))), supports, shares)
        different: list[_Place] = []
        possible = [(place, chance) for place, chance in zip(places, chances, strict=True) if chance > 0]
        for place, chance in sorted(possible, key=lambda each: -each[1]):
            known = next((i for i, other in enumerate(different) if self._are_same(place, other)), None)
            if known is None:
                different.append(place._replace(chance=float(chance)))
            else:
                other = different[known]
                exact = min(place, other, key=self._spread)
                different[known] = exact._replace(chance=other.chance + float(chance))
        return sorted(different, key=lambda place: -place.chance)

    def _answer(self, places: list[_Place]) -> Found:
        """The likeliest place, and the others beside those that its own region knows."""
        first, *rest = places
        estimate, own = first.estimate, first.estimated.others[0]
        if rest:
            estimate = as_likely(estimate, first.chance)
        own = [(pose, first.chance * chance) for pose, chance in own]
        found = Found.by(
            self[first.region], Estimated(estimate, first.estimated.rows, [own]), self.atlas.names[first.region]
        )
        others = [
            *found.others[0],
            *(alternative(self._info(place), place.estimate, place.chance) for place in rest),
        ]
        return found._replace(others=(tuple(sorted(others, key=lambda other: -other.probability)),))

    def _info(self, place: _Place) -> MapInfo:
        return self.atlas.regions[place.region].info

    def _world(self, place: _Place) -> Similarity:
        return self._info(place).world_from_map

    def _are_same(self, a: _Place, b: _Place) -> bool:
        """Whether two regions found one place."""
        if self._info(a).world != self._info(b).world:
            return False
        here, there = (self._world(place).pose(place.estimate.cam_from_world)[0] for place in (a, b))
        depths = (a.estimate.cam_from_world @ a.estimated.rows.scene_points)[..., 2]
        return bool(are_same(here, there, self._world(a).scale * depths.median().item()))

    def _spread(self, place: _Place) -> float:
        """How far off it may be, in the world's unit."""
        return self._world(place).scale * place.estimate.position_sigma_m.item()

    # ---- where the focal length is not known exactly ----------------------------------------------

    def focus(self, frame: Frame, among: Int[np.ndarray, " K"], clock: Clock) -> tuple[Found, Focused]:
        """Pose and focal length of one photo by the likeliest region that is sure of them."""
        images = frame.image[None]
        scores = self._likely(self._seen(images, frame.camera)[0], among)
        clock.lap("encode")
        best: tuple[_Place, Focused] | None = None
        for k, row in enumerate(list(scores)[:_MOST_SEARCHED]):
            focused = self[row].focused(frame, clock)
            place = _Place(row, _one_of(1 + k, focused.estimated))
            if best is None or place.rank > best[0].rank:
                best = place, focused
            if place.is_sure:
                break
        assert best is not None
        return self._answer([best[0]]), best[1]


def _one_of(k: int, estimated: Estimated) -> Estimated:
    """One photo's answer by one of k regions: by chance one of so many is as confident."""
    estimate = estimated.estimate
    confidence = estimate.confidence / (estimate.confidence + k * (1 - estimate.confidence)).clamp_min(1e-9)
    told = trusted(replace(estimate, confidence=confidence)) if k > 1 else estimate
    return estimated._replace(estimate=told)


def _is_settled(looks: dict[int, FirstLook], scores: dict[int, float], k: int) -> bool:
    """Whether the k-th region need not be looked at: another has a pose, and is likelier by far."""
    score = list(scores.values())[k]
    return any(
        look.found[0].success
        and scores[row] - score > (_RIVAL if look.found[0].confidence > ENOUGH else _RIVAL_OF_DOUBTS)
        for row, look in looks.items()
    )


_BYTES_A_VALUE, _BYTES_A_LANDMARK, _BYTES_A_POINT = 4, 800, 400  # of a map in memory
_MOST_ASKED = 12  # regions, of one photo
_MOST_FROM_PRIOR = 2  # likewise, by their landmarks alone
_MOST_SEARCHED = 3  # likewise, for what landmarks leave open
# Differences of mean cosines. Of 15 places, ten of them rooms of one layout, the right one was the likeliest
# for 99.3 % of 569 photos, and never more than 0.044 below that. In a building of 30 rooms and three corridors
# it was, for photos that another region answered wrongly, up to 0.1 below.
_RIVAL, _RIVAL_OF_DOUBTS = (
    0.03,
    0.06,
)  # no less likely than that is looked at, too; where the likelier has doubts
_UNLIKELY, _AS_LIKELY = (
    0.1,
    0.01,
)  # less likely than that, never; no more than that, it may know the place as well
