"""A rendered walk through the room, written in every format that is read: the same frames in each.

A writer puts the walk into a folder; how it means poses and intrinsics stands in docs/recordings.md. Images are
PNG everywhere, so that a map that was made of one format knows the frames of another.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
import torch
from known_cameras import axis_angle, numbers, quaternion_xyzw

from dsac.datasets import Frames
from dsac.datasets.formats.seven_scenes import COLOR_FROM_DEPTH
from dsac.geometry import Camera, Pose
from dsac.rooms import Shots, render_scene, synthetic_scene

START = 1305031102.0
GL = np.diag([1.0, -1.0, -1.0, 1.0])  # from cameras with y up and z backward to ours
OWN_SCALE = 3.0  # units of a world without metres in a metre


@dataclass(frozen=True, eq=False)
class Walk:
    """N frames: square pixels, the principal point in the middle."""

    camera: Camera
    world_from_cam: np.ndarray  # (N, 4, 4)
    images: list[np.ndarray]  # RGB, as files
    depth: list[np.ndarray]  # metres
    kinect_depth: list[np.ndarray]  # of a second camera, as 7-Scenes has it

    @staticmethod
    def render(count: int, size: tuple[int, int] = (160, 120)) -> Walk:
        scene = synthetic_scene(num_mapping=10 * count, num_query=0, size=size, light_cell=0.5)
        frames = scene.mapping[range(count)]
        assert frames.cam_from_world is not None
        kinect = Camera.simple(585 * size[0] / 640, size)
        still = Shots(
            COLOR_FROM_DEPTH.inverse() @ frames.cam_from_world, np.ones(count), torch.zeros(count, 6).double()
        )
        room = frames.reader.room  # type: ignore[attr-defined]
        beside = render_scene(room, kinect, still, Shots(still.cam_from_world[[]], np.ones(0), still.shake[:0]),
                              np.random.default_rng(0)).mapping  # fmt: skip
        return Walk(
            frames.camera(0),
            frames.cam_from_world.inverse().matrix.numpy(),
            [frames.reader.read_image(name) for name in frames.names],
            [_depth(frames, i) for i in range(count)],
            [_depth(beside, i) for i in range(count)],
        )

    @property
    def focal(self) -> float:
        return float(self.camera.focal_px[0])

    @property
    def size(self) -> tuple[int, int]:
        return self.camera.size

    @property
    def K(self) -> np.ndarray:
        width, height = self.size
        return np.array([[self.focal, 0, width / 2], [0, self.focal, height / 2], [0, 0, 1]])

    @property
    def cam_from_world(self) -> np.ndarray:
        return np.linalg.inv(self.world_from_cam)

    @property
    def times(self) -> list[float]:
        return [START + i / 32 for i in range(len(self.images))]  # exact in float64

    @cached_property
    def bent(self) -> Walk:
        """The same through a lens with distortion."""
        camera = Camera.from_params(
            "OPENCV", [self.focal, self.focal, *self.camera.center_px.tolist(), *DISTORTION], self.size
        )
        width, height = self.size
        x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        rays = camera.unproject(torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2)))
        pixels = (self.camera.project(rays).reshape(height, width, 2).numpy() - 0.5).astype(np.float32)

        def seen(picture: np.ndarray, how: int) -> np.ndarray:
            return cv2.remap(picture, pixels, None, how, borderMode=cv2.BORDER_REPLICATE)

        images = [seen(image, cv2.INTER_CUBIC) for image in self.images]
        depth = [seen(picture, cv2.INTER_NEAREST) for picture in self.depth]
        return replace(self, camera=camera, images=images, depth=depth)


DISTORTION = (-0.12, 0.02, 0.001, -0.001)  # k1 k2 p1 p2: to the inside


def _depth(frames: Frames, i: int) -> np.ndarray:
    return frames.reader.read_depth(frames.names[i], frames.camera(i))


class Writer:
    """Into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def text(self, name: str, content: object) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))

    def images(self, walk: Walk, name: str, grey: bool = False) -> list[str]:
        """Files named by the number of each; their names."""
        names = [
            name.format(i, time=walk.times[i], ns=round(1e9 * walk.times[i])) for i in range(len(walk.images))
        ]
        for file, image in zip(names, walk.images, strict=True):
            pixels = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY if grey else cv2.COLOR_RGB2BGR)
            self._picture(file, pixels)
        return names

    def depth(
        self, walk: Walk, name: str, unit: float = 0.001, every: int = 1, later: float = 0, kinect: bool = False
    ) -> list[str]:
        """Likewise; `every` so many pixels one."""
        names = [name.format(i, time=walk.times[i] + later) for i in range(len(walk.images))]
        for file, depth in zip(names, walk.kinect_depth if kinect else walk.depth, strict=True):
            self._picture(
                file, np.round(depth[every // 2 :: every, every // 2 :: every] / unit).astype(np.uint16)
            )
        return names

    def _picture(self, name: str, pixels: np.ndarray) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


# ---- data sets ---------------------------------------------------------------------------------------


def plain(walk: Walk, to: Writer) -> None:
    to.images(walk, "images/{}.png")
    to.depth(walk, "depth/{}.png")
    to.text(
        "poses.txt", "".join(f"{i}.png {_wxyz(m)} {walk.focal}\n" for i, m in enumerate(walk.cam_from_world))
    )


def seven_scenes(walk: Walk, to: Writer) -> None:
    to.images(walk, "seq-01/frame-{:06}.color.png")
    to.depth(walk, "seq-01/frame-{:06}.depth.png", kinect=True)
    for i, matrix in enumerate(walk.world_from_cam @ COLOR_FROM_DEPTH.matrix.numpy()):
        to.text(f"seq-01/frame-{i:06}.pose.txt", numbers(matrix))


def seven_scenes_sfm(walk: Walk, to: Writer) -> None:
    names = to.images(walk, "seq-01/frame-{:06}.color.png")
    to.depth(walk, "seq-01/frame-{:06}.depth.png", kinect=True)
    scale = 640 / walk.size[0]
    lines = [f"{n} {_wxyz(m)} {scale * walk.focal}\n" for n, m in zip(names, walk.cam_from_world, strict=True)]
    to.text("poses_sfm.txt", "".join(lines))


def twelve_scenes(walk: Walk, to: Writer) -> None:
    to.images(walk, "data/frame-{:06}.color.png")
    to.depth(walk, "data/frame-{:06}.depth.png", every=2)
    width, height = walk.size
    info = {"m_colorWidth": width, "m_colorHeight": height, "m_depthWidth": width // 2}
    info |= {"m_depthHeight": height // 2, "m_depthShift": 1000}
    info |= {"m_calibrationColorIntrinsic": numbers(_K4(walk.K))}
    info |= {"m_calibrationDepthIntrinsic": numbers(_K4(np.diag([0.5, 0.5, 1]) @ walk.K))}
    to.text("info.txt", "".join(f"{key} = {value}\n" for key, value in info.items()))
    for i, matrix in enumerate(walk.world_from_cam):
        to.text(f"data/frame-{i:06}.pose.txt", numbers(matrix))


def tum(walk: Walk, to: Writer) -> None:
    """Poses come at other times than images, depth at others still."""
    rgb = to.images(walk.bent, "rgb/{time:.7f}.png")
    depth = to.depth(walk.bent, "depth/{time:.7f}.png", 1 / 5000, later=1 / 128)
    to.text("rgb.txt", "".join(f"{name[4:-4]} {name}\n" for name in rgb))
    to.text("depth.txt", "".join(f"{name[6:-4]} {name}\n" for name in depth))
    step = Pose.exp(torch.tensor([0, 0, 0, 0.02, -0.03, 0.01]).double()).matrix.numpy()
    step[:3, 3] = 0
    move = np.array([0.02, 0.01, -0.01])
    lines = []
    for time, matrix in zip(walk.times, walk.world_from_cam, strict=True):
        for sign, turn in ((-1, step.T), (1, step)):  # the image's pose lies in the middle
            moved = matrix @ turn
            moved[:3, 3] += sign * move
            lines.append(f"{time + sign / 128:.7f} {_xyz_xyzw(moved)}\n")
    to.text("groundtruth.txt", "".join(lines))
    width, height = walk.size
    # the first pixel's centre is 0
    pinhole = [walk.focal, walk.focal, width / 2 - 0.5, height / 2 - 0.5]
    to.text("calibration.txt", f"{width} {height} {numbers(pinhole)} {numbers(DISTORTION)}\n")


def icl_nuim(walk: Walk, to: Writer) -> None:
    names = to.images(walk, "rgb/{}.png")
    depth = to.depth(walk, "depth/{}.png", 1 / 5000)
    to.text(
        "associations.txt",
        "".join(f"{i} {d} {i} {n}\n" for i, (d, n) in enumerate(zip(depth, names, strict=True))),
    )
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    lines = [f"{i} {_xyz_xyzw(mirror @ m @ mirror)}\n" for i, m in enumerate(walk.world_from_cam)]
    to.text("groundtruth.txt", "".join(lines))
    width, height = walk.size
    to.text("calibration.txt", numbers([walk.focal, -walk.focal, width / 2 - 0.5, height / 2 - 0.5]))


def ace(walk: Walk, to: Writer) -> None:
    to.images(walk, "train/rgb/{:03}.png")
    to.depth(walk, "train/depth/{:03}.png", every=2)
    for i, matrix in enumerate(walk.world_from_cam):
        to.text(f"train/poses/{i:03}.txt", numbers(matrix))
        to.text(f"train/calibration/{i:03}.txt", f"{walk.focal}\n")


def cambridge(walk: Walk, to: Writer) -> None:
    names = to.images(walk, "seq1/frame{:05}.png")
    lines, cameras = [], []
    focal = walk.focal * 1920 / walk.size[0]
    for name, inverse, matrix in zip(names, walk.cam_from_world, walk.world_from_cam, strict=True):
        wxyz = numbers(np.roll(quaternion_xyzw(inverse), 1))
        lines.append(f"{name} {numbers(matrix[:3, 3])} {wxyz}\n")
        cameras.append(f"{name.replace('png', 'jpg')} {focal} {wxyz} {numbers(matrix[:3, 3])} 0 0\n")
    to.text("dataset_train.txt", f"Visual Landmark Dataset V1\nImageFile, Camera Position\n\n{''.join(lines)}")
    to.text("reconstruction.nvm", f"NVM_V3\n\n{len(names)}\n{''.join(cameras)}\n0\n")


def scannet(walk: Walk, to: Writer) -> None:
    to.images(walk, "color/{}.png")
    to.depth(walk, "depth/{}.png", every=2)
    for i, matrix in enumerate(walk.world_from_cam):
        to.text(f"pose/{i}.txt", numbers(matrix))
    to.text("intrinsic/intrinsic_color.txt", numbers(_K4(walk.K)))
    to.text("intrinsic/intrinsic_depth.txt", numbers(_K4(np.diag([0.5, 0.5, 1]) @ walk.K)))


def kitti(walk: Walk, to: Writer) -> None:
    """The second camera stands 0.3 m to the right of the first, whose poses are written."""
    to.images(walk, "image_2/{:06}.png")
    width, height = walk.size
    K = np.array([[walk.focal, 0, width / 2 - 0.5], [0, walk.focal, height / 2 - 0.5], [0, 0, 1]])
    beside = np.eye(4)
    beside[0, 3] = -0.3
    to.text("calib.txt", f"P0: {numbers(np.eye(3, 4))}\nP2: {numbers(K @ beside[:3])}\n")
    to.text("poses.txt", "".join(f"{numbers((m @ beside)[:3])}\n" for m in walk.world_from_cam))


def euroc(walk: Walk, to: Writer) -> None:
    """Grey images through a lens, poses of a body that the camera stands turned in."""
    names = to.images(walk.bent, "mav0/cam0/data/{ns}.png", grey=True)
    stamps = [round(time * 1e9) for time in walk.times]
    files = zip(stamps, names, strict=True)
    to.text(
        "mav0/cam0/data.csv", "#timestamp [ns],filename\n" + "".join(f"{t},{Path(n).name}\n" for t, n in files)
    )
    body_from_cam = Pose.exp(torch.tensor([0.1, -0.05, 0.02, 0.3, 1.2, -0.4]).double()).matrix.numpy()
    width, height = walk.size
    pinhole = [walk.focal, walk.focal, width / 2 - 0.5, height / 2 - 0.5]
    lists = {"resolution": walk.size, "intrinsics": pinhole, "distortion_coefficients": DISTORTION}
    yaml = "".join(f"{key}: [{numbers(values, ', ')}]\n" for key, values in lists.items())
    yaml += f"distortion_model: radial-tangential\nT_BS:\n  cols: 4\n  data: [{numbers(body_from_cam, ', ')}]\n"
    to.text("mav0/cam0/sensor.yaml", yaml)
    rows = []
    for stamp, matrix in zip(stamps, walk.world_from_cam @ np.linalg.inv(body_from_cam), strict=True):
        wxyz = np.roll(quaternion_xyzw(matrix), 1)
        rows.append(f"{stamp},{numbers([*matrix[:3, 3], *wxyz, 0, 0, 0], ',')}\n")
    to.text("mav0/state_groundtruth_estimate0/data.csv", "#timestamp,p,q\n" + "".join(rows))


# ---- phones ------------------------------------------------------------------------------------------


def arkit_scenes(walk: Walk, to: Writer) -> None:
    """Ten poses a second, camera from world, between which images take theirs."""
    to.images(walk, "lowres_wide/41_{time:.3f}.png")
    to.depth(walk, "lowres_depth/41_{time:.3f}.png")
    width, height = walk.size
    pincam = numbers([width, height, walk.focal, walk.focal, width / 2, height / 2])
    lines = []
    for time, matrix in zip(walk.times, walk.cam_from_world, strict=True):
        to.text(f"lowres_wide_intrinsics/41_{time:.3f}.pincam", pincam)
        lines.append(f"{time} {numbers([*axis_angle(matrix), *matrix[:3, 3]])}\n")
    to.text("lowres_wide.traj", "".join(lines))


def polycam(walk: Walk, to: Writer) -> None:
    to.images(walk, "keyframes/images/{:08}.png")
    to.depth(walk, "keyframes/depth/{:08}.png", every=2)
    width, height = walk.size
    lens = {
        "fx": walk.focal,
        "fy": walk.focal,
        "cx": width / 2,
        "cy": height / 2,
        "width": width,
        "height": height,
    }
    for i, matrix in enumerate(walk.world_from_cam @ GL):
        pose = {f"t_{row}{column}": matrix[row, column] for row in range(3) for column in range(4)}
        to.text(f"keyframes/cameras/{i:08}.json", lens | pose)


def record3d(walk: Walk, to: Writer) -> None:
    to.images(walk, "rgb/{}.png")
    to.depth(walk, "depth/{}.png", every=2)
    width, height = walk.size
    poses = [[*quaternion_xyzw(matrix), *matrix[:3, 3]] for matrix in walk.world_from_cam @ GL]
    to.text("metadata.json", {"w": width, "h": height, "K": walk.K.T.ravel().tolist(), "poses": poses})


def scanner_app(walk: Walk, to: Writer) -> None:
    to.images(walk, "frame_{:05}.png")
    to.depth(walk, "depth_{:05}.png", every=2)
    for i, matrix in enumerate(walk.world_from_cam @ GL):
        frame = {"cameraPoseARFrame": matrix.ravel().tolist(), "intrinsics": walk.K.ravel().tolist()}
        to.text(f"frame_{i:05}.json", frame)


# ---- reconstructions ---------------------------------------------------------------------------------


def nerfstudio(walk: Walk, to: Writer) -> None:
    bent = walk.bent
    names = to.images(bent, "images/{}.png")
    depth = to.depth(bent, "depths/{}.png")
    matrices = (walk.world_from_cam @ GL).tolist()
    frames = [
        {"file_path": name, "depth_file_path": file, "transform_matrix": matrix}
        for name, file, matrix in zip(names, depth, matrices, strict=True)
    ]
    width, height = walk.size
    top = {"camera_model": "OPENCV", "fl_x": walk.focal, "fl_y": walk.focal, "cx": width / 2, "cy": height / 2}
    top |= {"w": width, "h": height, **dict(zip(("k1", "k2", "p1", "p2"), DISTORTION, strict=True))}
    to.text("transforms.json", top | {"frames": frames})


def instant_ngp(walk: Walk, to: Writer) -> None:
    to.images(walk, "images/{}.png")
    depth = to.depth(walk, "depth/{}.png", 0.0005)
    frames = [
        {"file_path": f"./images/{i}", "depth_path": depth[i], "transform_matrix": matrix}
        for i, matrix in enumerate((walk.world_from_cam @ GL).tolist())
    ]
    angle = 2 * np.arctan(walk.size[0] / 2 / walk.focal)
    to.text("transforms.json", {"camera_angle_x": angle, "integer_depth_scale": 0.0005, "frames": frames})


def colmap_text(walk: Walk, to: Writer) -> None:
    """In a scale of its own, through a lens."""
    to.images(walk.bent, "images/{}.png")
    width, height = walk.size
    params = numbers([walk.focal, walk.focal, width / 2, height / 2, *DISTORTION])
    to.text("sparse/0/cameras.txt", f"# cameras\n1 OPENCV {width} {height} {params}\n")
    lines = [f"{i + 1} {_wxyz(m, OWN_SCALE)} 1 {i}.png\n\n" for i, m in enumerate(walk.cam_from_world)]
    to.text("sparse/0/images.txt", f"# images\n{''.join(lines)}")


def colmap_binary(walk: Walk, to: Writer) -> None:
    to.images(walk, "images/{}.png")
    width, height = walk.size
    cameras = struct.pack("<QIiQQ3d", 1, 1, 0, width, height, walk.focal, width / 2, height / 2)
    images = struct.pack("<Q", len(walk.images))
    for i, matrix in enumerate(walk.cam_from_world):
        wxyz = np.roll(quaternion_xyzw(matrix), 1)
        images += struct.pack("<I7dI", i + 1, *wxyz, *matrix[:3, 3], 1) + f"{i}.png\0".encode() + bytes(8)
    (to.folder / "sparse" / "0").mkdir(parents=True)
    (to.folder / "sparse" / "0" / "cameras.bin").write_bytes(cameras)
    (to.folder / "sparse" / "0" / "images.bin").write_bytes(images)


def opensfm(walk: Walk, to: Writer) -> None:
    to.images(walk, "images/{}.png")
    width, height = walk.size
    focal = walk.focal / max(walk.size)
    camera = {
        "projection_type": "perspective",
        "width": width,
        "height": height,
        "focal": focal,
        "k1": 0,
        "k2": 0,
    }
    shots = {
        f"{i}.png": {"rotation": axis_angle(m).tolist(), "translation": m[:3, 3].tolist(), "camera": "a"}
        for i, m in enumerate(walk.cam_from_world)
    }
    to.text("reconstruction.json", [{"cameras": {"a": camera}, "shots": shots, "points": {}}])


def llff(walk: Walk, to: Writer) -> None:
    to.images(walk, "images/{:03}.png")
    width, height = walk.size
    x, y, z, position = walk.world_from_cam[:, :3].transpose(2, 0, 1)
    lens = np.tile([height, width, walk.focal], (len(x), 1))
    rows = np.stack([y, x, -z, position, lens], axis=-1).reshape(len(x), 15)
    np.save(to.folder / "poses_bounds.npy", np.concatenate([rows, np.tile([0.5, 9.0], (len(x), 1))], axis=1))


def ros_bag(walk: Walk, to: Writer) -> Path:
    from bags import OPTICAL, Bag

    width, height = walk.size
    K = [walk.focal, 0, width / 2 - 0.5, 0, walk.focal, height / 2 - 0.5, 0, 0, 1]
    bag = Bag(to.folder, "mcap")
    with bag.writer:
        bag.camera_info("/camera/color/camera_info", K=K, size=walk.size)
        for i, matrix in enumerate(walk.world_from_cam):
            time = round(walk.times[i] * 1e9)
            bag.image("/camera/color/image_raw", time, walk.images[i], "rgb8")
            bag.image("/camera/depth/image", time, np.round(1000 * walk.depth[i]).astype(np.uint16), "16UC1")
            bag.transform("/tf", time, "map", OPTICAL, matrix)
    return bag.path


# ---- lines -------------------------------------------------------------------------------------------


def _wxyz(matrix: np.ndarray, scale: float = 1.0) -> str:
    return numbers([*np.roll(quaternion_xyzw(matrix), 1), *scale * matrix[:3, 3]])


def _xyz_xyzw(matrix: np.ndarray) -> str:
    return numbers([*matrix[:3, 3], *quaternion_xyzw(matrix)])


def _K4(K: np.ndarray) -> np.ndarray:
    padded = np.eye(4)
    padded[:3, :3] = K
    return padded


WRITERS: list[Callable[[Walk, Writer], Path | None]] = [
    plain, seven_scenes, seven_scenes_sfm, twelve_scenes, tum, icl_nuim, ace, cambridge, scannet, kitti, euroc,
    arkit_scenes, polycam, record3d, scanner_app, nerfstudio, instant_ngp, colmap_text, colmap_binary, opensfm,
    llff, ros_bag,
]  # fmt: skip
WITHOUT_DEPTH = [cambridge, kitti, euroc, colmap_text, colmap_binary, opensfm, llff]
