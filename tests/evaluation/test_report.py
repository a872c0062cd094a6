from __future__ import annotations

import base64
import re
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsac.datasets import Frame, Scene
from dsac.errors import DsacError
from dsac.evaluation import evaluate, evaluate_poses
from dsac.evaluation.gallery import inlier_picture, overlay_picture, photo
from dsac.evaluation.plots import ground_plane
from dsac.evaluation.report import published_section, render_report
from dsac.geometry import Camera, Pose

pytest.importorskip("matplotlib")

ERRORS_CM = [0.5, 1.5, 3.0, 4.0, 8.0, 200.0]
_VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects text, tags and references, and fails on tags that do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("href", "src", "srcset", "xlink:href")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f"{data} "


@pytest.fixture(scope="module")
def html(scene, make_localizer, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "new folder" / "report.html"
    evaluate(
        make_localizer(ERRORS_CM, failing={1}),
        scene,
        report=path,
        settings=[("command", "dsac evaluate <wall>")],
    )
    return path.read_text(encoding="utf-8")


def test_the_report_asks_the_network_for_nothing(html):
    page = Page(html)
    assert page.references
    assert all(reference.startswith(("#", "data:image/")) for reference in page.references)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "img"}
    outside = re.sub(r"base64,[A-Za-z0-9+/=]+", "", html)
    assert "://" not in outside and "@import" not in outside
    assert set(re.findall(r"url\((.)", outside)) <= {"#"}  # clip paths of the charts


def test_references_inside_the_page_are_there(html):
    ids = re.findall(r'\sid="([^"]+)"', html)
    used = [reference[1:] for reference in Page(html).references if reference.startswith("#")]
    used += re.findall(r"url\(#([^)]+)\)", html)
    assert used and set(used) <= set(ids)


def test_the_report_says_the_numbers_with_the_truth_they_belong_to(html):
    text = " ".join(Page(html).text.split())
    assert "6 query images, scored against the truth own" in text
    assert "within 5 cm 5° 50.0 %" in text
    assert "not localized 1 of 6" in text
    assert "command dsac evaluate <wall>" in text
    for i in range(10, 16):
        assert f"{i:02d} <&>.png" in text  # names are shown as they are, whatever they hold


def test_charts_follow_the_colours_of_the_page(html):
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.S)
    assert len(svgs) > 8
    assert not any(re.search(r"(fill|stroke): ?#", svg) for svg in svgs)
    used = set(re.findall(r"var\(--(\w+)\)", html))
    assert used and used <= set(re.findall(r"--(\w+):", html))


@pytest.mark.parametrize(
    "errors_cm, failing", [([0.0] * 6, set()), ([0.0] * 6, set(range(6))), ([1e6] * 6, {0})]
)
def test_a_report_of_extreme_results_is_a_page(scene, make_localizer, errors_cm, failing):
    page = Page(render_report(evaluate(make_localizer(errors_cm, failing), scene)))
    assert f"not localized {len(failing)} of 6" in " ".join(page.text.split())
    assert "nan" not in page.text.lower()


def test_images_of_places_that_look_alike_are_counted(scene, make_localizer):
    evaluation = evaluate(make_localizer(ERRORS_CM), scene)
    assert evaluation.places is None and evaluation.about_places == ""
    truth = evaluation.truths[evaluation.summaries[0].truth]
    poses = truth.cam_from_world
    far = Pose(poses.rotation, poses.translation + 1.0)
    places = [
        ((poses[0], 0.8), (far[0], 0.2)),
        ((far[1], 0.6), (poses[1], 0.4)),
        ((far[2], 0.5), (far[2], 0.5)),
    ]
    frames = [replace(frame, places=at) for frame, at in zip(evaluation.frames, places, strict=False)]
    several = replace(evaluation, frames=[*frames, *evaluation.frames[3:]])
    assert several.places == pytest.approx(
        {"images": 3, "right_named": 200 / 3, "right_first": 100 / 3, "probability_first": 190 / 3}
    )
    assert "67 % name the right one (within 5 cm 5°), 33 % first" in several.about_places
    assert several.to_dict()["several_places"]["images"] == 3
    assert "places that look alike" in render_report(several)


def test_one_query_image_makes_a_report(scene, make_localizer):
    single = replace(scene, query=scene.query[:1], mapping=scene.mapping[:0])
    assert "1 query images" in Page(render_report(evaluate(make_localizer([1.0]), single))).text


def test_poses_files_make_a_report_without_pictures(scene, tmp_path: Path):
    from dsac.datasets import write_poses

    for name in ("estimates", "own"):
        write_poses(tmp_path / f"{name}.txt", scene.truths["own"])
    evaluation = evaluate_poses(
        tmp_path / "estimates.txt", tmp_path / "own.txt", report=tmp_path / "report.html"
    )
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert evaluation.summaries[0].percent_1cm_1deg == 100
    assert "image/jpeg" not in html and "100.0" in Page(html).text


def test_a_report_of_a_scene_of_arbitrary_scale_tells_no_centimetres(scene, make_localizer):
    named = replace(scene, truths={"own": scene.truths["own"]}, metric=False)
    html = render_report(evaluate(make_localizer(ERRORS_CM, failing={1}), named))
    text = " ".join(Page(html).text.split())
    assert "within 0.5 spacings 5°" in text and "translation error, spacings" in text
    assert not re.search(r"\bcm\b|\d m\b", text)


def test_published_rows_stand_beside_the_scene_they_belong_to(scene, make_localizer):
    named = Scene("7scenes/redkitchen", "7-Scenes (SfM truth)", scene.mapping, scene.query,
                  {"sfm": scene.truths["own"]})  # fmt: skip
    text = " ".join(Page(published_section(evaluate(make_localizer(ERRORS_CM), named))).text.split())
    assert "Beside published results" in text
    assert re.search(r"DSAC\* RGB . sfm 97\.0 90\.7 67\.3 ", text)
    assert published_section(evaluate(make_localizer(ERRORS_CM), scene)) == ""


def test_without_matplotlib_the_install_line_is_told_before_the_work(
    scene, make_localizer, monkeypatch, tmp_path
):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    localizer = make_localizer(ERRORS_CM)
    with pytest.raises(DsacError, match=r"pip install 'dsac\[plots\]'"):
        evaluate(localizer, scene, report=tmp_path / "report.html")
    assert localizer.seen == [] and not (tmp_path / "report.html").exists()


# ---- pictures ------------------------------------------------------------------------------------


def meshes(svg: str) -> dict[str, str]:
    return dict(re.findall(r'<path class="mesh (\w+)" d="([^"]*)"/>', svg))


@pytest.mark.parametrize("with_depth", [True, False])
def test_meshes_coincide_exactly_when_the_estimate_is_right(scene, make_localization, with_depth):
    frame = replace(scene.query[0], depth=scene.query[0].depth if with_depth else None)
    truth = scene.query.cam_from_world[0]
    right = meshes(
        overlay_picture(make_localization("a", truth, Pose.identity(dtype=torch.float64)), "p", frame, truth)
    )
    assert right["truth"] and right["truth"] == right["estimate"]
    shift = Pose.exp(torch.tensor([0, 0, 0, 0.1, 0, 0], dtype=torch.float64))
    wrong = meshes(overlay_picture(make_localization("a", truth, shift), "p", frame, truth))
    assert wrong["truth"] == right["truth"]
    # 10 cm at 2 m with a focal length of 80 px: 4 px to the right
    start = [float(re.match(r"M(\S+) ", wrong[kind]).group(1)) for kind in ("truth", "estimate")]
    assert start[1] - start[0] == pytest.approx(4.0, abs=0.11)


def test_of_several_modes_the_mesh_is_of_those_that_agree(scene, make_localization):
    frame = replace(scene.query[0], depth=None)
    truth = scene.query.cam_from_world[0]
    one = make_localization("a", truth, Pose.identity(dtype=torch.float64))
    c, wrong = one.correspondences, one.correspondences.scene_points + 7.0
    modes = replace(
        c,
        pixels=c.pixels.repeat_interleave(2, 1),
        scene_points=torch.stack([wrong, c.scene_points], 2).flatten(1, 2),
        modes=2,
    )
    inliers = torch.stack([torch.zeros_like(one.inliers), one.inliers], -1).flatten()
    several = replace(one, correspondences=modes, inliers=inliers)
    assert meshes(overlay_picture(several, "p", frame, truth)) == meshes(
        overlay_picture(one, "p", frame, truth)
    )


def test_inlier_cells_are_coloured_by_reprojection_error(scene, make_localization):
    truth = scene.query.cam_from_world[0]
    for shift_m, colour in ((0.0, "c0"), (0.05, "c1"), (0.1, "c2"), (0.3, "c3")):  # 0, 2, 4 and 12 px
        increment = Pose.exp(torch.tensor([0, 0, 0, shift_m, 0, 0], dtype=torch.float64))
        assert re.findall(r'class="(c\d)"', inlier_picture(make_localization("a", truth, increment), "p")) == [
            colour
        ]


def test_the_photo_is_shown_as_the_ideal_camera_sees_it():
    """A dot on a distorted photo of twice the size comes to lie where `undistort` says."""
    camera = Camera.from_params("OPENCV", [150.0, 150.0, 100.0, 60.0, -0.3, 0.05, 0.002, -0.001], (192, 128))
    dot = torch.tensor([[170.5, 24.5]], dtype=torch.float64)
    image = torch.zeros(3, 128, 192)
    image[:, 22:27, 168:173] = 1.0  # 5 x 5 pixels around the dot
    ideal = camera.rescale((96, 64)).pinhole
    svg = photo(Frame("a", image, camera, None), ideal, "p")
    data = base64.b64decode(re.search(r"base64,([^\"]+)", svg).group(1))
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE).astype(float)
    assert picture.shape == (64, 96)
    picture[picture < 60] = 0  # noise of the compression
    y, x = np.indices(picture.shape)
    seen = np.array([(picture * (x + 0.5)).sum(), (picture * (y + 0.5)).sum()]) / picture.sum()
    assert seen == pytest.approx(camera.undistort(dot)[0].numpy() / 2, abs=0.4)
    assert np.abs(seen - dot[0].numpy() / 2).max() > 2  # the distortion matters there


# ---- the view from above -------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), rolling=st.booleans())
def test_the_view_from_above_keeps_distances_on_the_ground_and_is_no_mirror_image(seed, rolling):
    generator = torch.Generator().manual_seed(seed)
    ground = torch.randn(30, 2, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0])
    centers = torch.cat([ground, 0.01 * torch.randn(30, 1, generator=generator, dtype=torch.float64)], 1)
    yaw = torch.rand(30, generator=generator, dtype=torch.float64) * 6
    flat = torch.zeros_like(yaw)
    right, down = torch.stack([yaw.cos(), yaw.sin(), flat], 1), torch.stack([flat, flat, flat - 1], 1)
    rotation = torch.stack([right, down, torch.linalg.cross(right, down)], 1)  # cam_from_world of level cameras
    upright = Pose(rotation, -(rotation @ centers[..., None])[..., 0])
    if rolling:  # half of the cameras upside down: up vectors cancel, only the plane of the centres is left
        half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64)).expand(15, 3, 3)
        turned = Pose(half_turn, torch.zeros(15, 3, dtype=torch.float64)) @ upright[:15]
        upright = Pose.cat([turned, upright[15:]])
    world = Pose.exp(torch.randn(6, generator=generator, dtype=torch.float64))  # any frame of the scene
    cameras = upright @ world.inverse()
    seen = cameras.center @ ground_plane(cameras).T
    assert torch.allclose(torch.cdist(seen, seen), torch.cdist(ground, ground), atol=0.1)
    if not rolling:
        area = torch.linalg.det(torch.stack([seen[1] - seen[0], seen[2] - seen[0]]))
        true_area = torch.linalg.det(torch.stack([ground[1] - ground[0], ground[2] - ground[0]]))
        assert area.item() == pytest.approx(true_area.item(), abs=0.3)
