"""Photos whose focal length is not known: it is found with the pose, and what it leaves open is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ball_world import ColorEncoder
from textured_ball import LENS, frames, places, textured

from dsac import Localizer, load_photos
from dsac.datasets.frame import Focal, Frames
from dsac.ransac import refocused

POSES = places(4, seed=11)


@pytest.fixture(scope="module")
def localizer(textured_ball_map) -> Localizer:
    return Localizer(textured_ball_map, encoder=ColorEncoder())


def _photos(factor: float, how: Focal) -> Frames:
    """Taken through the mapping lens, and told to be of so many times its focal length."""
    photos = frames(LENS, POSES)
    return replace(photos, cameras=[refocused(LENS, factor)], focal=(how,) * len(photos))


def _apart(localizer: Localizer, photos: Frames) -> list[float]:
    answers = localizer.localize_frames(photos)
    return [a.cam_from_world.center_distance(POSES[i]).item() for i, a in enumerate(answers)]


@pytest.mark.parametrize(
    ("factor", "how"),
    [(0.9, "rough"), (1.1, "rough"), (0.7, "unknown"), (1.0, "unknown"), (1.6, "unknown"), (1.25, "assumed")],
)
def test_a_wrong_focal_length_is_found_out(localizer: Localizer, factor: float, how: Focal) -> None:
    answers = list(localizer.localize_frames(_photos(factor, how)))
    assert all(answer.success for answer in answers)
    apart = [answer.cam_from_world.center_distance(POSES[i]).item() for i, answer in enumerate(answers)]
    stated = [distance / a.position_sigma_m.item() for distance, a in zip(apart, answers, strict=True)]
    focal = [abs(answer.focal_px / LENS.focal_px[0].item() - 1) for answer in answers]
    assert np.median(apart) < 0.06 and np.median(focal) < 0.03
    assert np.median(stated) < 3
    if factor != 1.0:  # than with what was told
        assert np.median(apart) < 0.5 * np.median(_apart(localizer, _photos(factor, "known")))


def test_one_that_is_right_stays_as_it_is_assumed(localizer: Localizer) -> None:
    for assumed, known in zip(
        localizer.localize_frames(_photos(1.0, "assumed")),
        localizer.localize_frames(_photos(1.0, "known")),
        strict=True,
    ):
        assert torch.equal(assumed.cam_from_world.translation, known.cam_from_world.translation)
        assert assumed.focal_px == known.focal_px == LENS.focal_px[0] and assumed.focal_sigma_px == 0


def test_what_came_out_is_said(localizer: Localizer) -> None:
    answer = next(localizer.localize_frames(_photos(1.1, "rough")))
    assert f"focal length {answer.focal_px:.0f} ± {answer.focal_sigma_px:.0f} px" in str(answer)
    plain = answer.to_dict()
    assert plain["focal_px"] == answer.focal_px and plain["focal_sigma_px"] == answer.focal_sigma_px > 0
    known = localizer.localize(textured(LENS, POSES[0]).image, LENS)
    assert known.focal_px == 400 and known.focal_sigma_px == 0 and "focal" not in str(known)


@pytest.mark.parametrize("how", ["known", "rough"])
def test_it_is_in_pixels_of_the_photo_as_it_was_given(localizer: Localizer, how: Focal, tmp_path: Path) -> None:
    """Large JPEGs are decoded smaller."""
    rgb = (255 * textured(LENS, POSES[0]).image).round().byte().permute(1, 2, 0).numpy()
    large = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), (8 * LENS.size[0], 8 * LENS.size[1]))
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    focal_px = 8 * LENS.focal_px[0].item()
    photos = load_photos(tmp_path / "large.jpg", focal_px=focal_px)
    assert photos[0].camera.size[0] < photos.camera(0).size[0]
    answer = next(localizer.localize_frames(replace(photos, focal=(how,))))
    assert answer.success and abs(answer.focal_px / focal_px - 1) < (1e-9 if how == "known" else 0.03)
    assert (answer.focal_sigma_px > 0) == (how == "rough")


@pytest.mark.parametrize("how", ["rough", "unknown", "assumed"])
def test_a_photo_of_nothing_is_not_localized_with_any_focal_length(localizer: Localizer, how: Focal) -> None:
    photos = _photos(1.0, how)[:1]
    noise = torch.rand(3, LENS.size[1], LENS.size[0], generator=torch.Generator().manual_seed(0))
    photos.reader.frames[photos.names[0]] = replace(photos[0], image=noise)  # type: ignore[attr-defined]
    answer = next(localizer.localize_frames(photos))
    assert not answer.success and answer.to_dict()["cam_from_world"] is None
