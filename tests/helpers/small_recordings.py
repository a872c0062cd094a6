"""A small recording in each format: functions that give its texts by name and append its images and depth."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

POSE = "1 0 0 0.1 0 1 0 0.2 0 0 1 {}"
POSES = [POSE.format(i) for i in range(3)]
K = "10 0 4 0 11 3 0 0 1"
K4 = "10 0 4 0 0 11 3 0 0 0 1 0 0 0 0 1"
EYE = "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"
STAMPS = ["1403715273.25", "1403715273.50", "1403715273.75"]


def tum(images: list[Path]) -> dict[str, str]:
    images += [Path(f"rgb/{i}.png") for i in range(3)] + [Path(f"depth/{i}.png") for i in range(3)]
    return {
        "rgb.txt": "# time file\n" + "".join(f"{t} rgb/{i}.png\n" for i, t in enumerate(STAMPS)),
        "depth.txt": "".join(f"{t} depth/{i}.png\n" for i, t in enumerate(STAMPS)),
        "groundtruth.txt": "".join(f"{t} {i} 0 0 0 0 0 1\n" for i, t in enumerate(STAMPS)),
        "camera.txt": "8 6 10 0 4 0 11 3 0 0 1 0.1 0.01 0 0 0",
        "depth_scale.txt": "0.001",
    }


def ace(images: list[Path]) -> dict[str, str]:
    images += [Path(f"train/rgb/{i}.png") for i in range(3)] + [Path("test/rgb/0.png")]
    texts = {f"train/poses/{i}.txt": f"{pose} 0 0 0 1\n" for i, pose in enumerate(POSES)}
    texts |= {f"train/calibration/{i}.txt": "10" if i else K for i in range(3)}
    return texts | {"test/poses/0.txt": f"{POSES[1]} 0 0 0 1", "test/calibration/0.txt": K}


def twelve_scenes(images: list[Path]) -> dict[str, str]:
    images += [Path(f"data/frame-00000{i}.color.png") for i in range(3)]
    info = [
        f"m_{kind}{side} = {n}\n" for kind in ("color", "depth") for side, n in (("Width", 8), ("Height", 6))
    ]
    info += [f"m_calibration{kind}Intrinsic = {K4}\n" for kind in ("Color", "Depth")]
    info += ["m_depthShift = 1000\n", f"m_calibrationDepthExtrinsic = {EYE}\n"]
    texts = {f"data/frame-00000{i}.pose.txt": f"{pose} 0 0 0 1" for i, pose in enumerate(POSES)}
    spans = "sequence0 [frames=1]  [start=0 ; end=0]\nsequence1 [frames=2]  [start=1 ; end=2]\n"
    return texts | {"info.txt": "".join(info), "split.txt": spans}


def cambridge(images: list[Path]) -> dict[str, str]:
    images += [Path(f"seq1/{i}.png") for i in range(3)]
    head = "Visual Landmark Dataset V1\nImageFile, Camera Position [X Y Z W P Q R]\n\n"
    return {
        "dataset_train.txt": head + "seq1/0.png 1 2 3 1 0 0 0\nseq1/1.png 2 2 3 1 0 0 0\n",
        "dataset_test.txt": head + "seq1/2.png 1 2 3 1 0 0 0\n",
        "reconstruction.nvm": f"NVM_V3\n\n2\nseq1/0.jpg 9{' 0' * 9}\nseq1/1.jpg 8{' 0' * 9}\n\n0\n",
    }


def scannet(images: list[Path]) -> dict[str, str]:
    images += [Path(f"color/{i}.jpg") for i in range(3)] + [Path(f"depth/{i}.png") for i in range(3)]
    texts = {f"pose/{i}.txt": f"{pose} 0 0 0 1" for i, pose in enumerate(POSES)}
    return texts | {f"intrinsic/intrinsic_{kind}.txt": K4 for kind in ("color", "depth")}


def kitti(images: list[Path]) -> dict[str, str]:
    images += [Path(f"image_2/{i}.png") for i in range(3)]
    return {
        "calib.txt": "P0: 10 0 4 0 0 10 3 0 0 0 1 0\nP2: 10 0 4 5 0 10 3 0 0 0 1 0\n",
        "poses.txt": "\n".join(POSES),
    }


def euroc(images: list[Path]) -> dict[str, str]:
    times = [1403715273262142976 + i * 50_000_000 for i in range(3)]
    images += [Path(f"mav0/cam0/data/{time}.png") for time in times]
    sensor = f"T_BS:\n  data: [{', '.join(EYE.split())}]\nresolution: [8, 6]\nintrinsics: [10, 11, 3, 2]\n"
    return {
        "mav0/cam0/data.csv": "#time,file\n" + "".join(f"{time},{time}.png\n" for time in times),
        "mav0/cam0/sensor.yaml": sensor + "distortion_model: radtan\ndistortion_coefficients: [0.1, 0, 0, 0]\n",
        "mav0/mocap0/data.csv": "".join(f"{time}, {i}, 0, 0, 1, 0, 0, 0\n" for i, time in enumerate(times)),
    }


def opensfm(images: list[Path]) -> dict[str, str]:
    images += [Path(f"images/{i}.png") for i in range(3)]
    camera = {
        "projection_type": "brown",
        "width": 8,
        "height": 6,
        "focal_x": 1,
        "focal_y": 1,
        "k1": 0.1,
        "c_x": 0,
    }
    shots = {f"{i}.png": {"rotation": [0, 0, 1], "translation": [i, 0, 0], "camera": "a"} for i in range(3)}
    return {"reconstruction.json": json.dumps([{"cameras": {"a": camera}, "shots": shots}])}


def llff(images: list[Path]) -> dict[str, bytes]:
    images += [Path(f"images/{i}.png") for i in range(3)]
    matrix = np.array([[0, 1, 0, 2, 6], [1, 0, 0, 3, 8], [0, 0, -1, 4, 10.0]])
    file = io.BytesIO()
    np.save(file, np.array([[*matrix.ravel(), 1, 9]] * 3))
    return {"poses_bounds.npy": file.getvalue()}


def arkit_scenes(images: list[Path]) -> dict[str, str]:
    images += [Path(f"{folder}/1_{i}.500.png") for i in range(3) for folder in ("lowres_wide", "lowres_depth")]
    texts = {f"lowres_wide_intrinsics/1_{i}.500.pincam": "8 6 10 11 4 3" for i in range(3)}
    return texts | {"lowres_wide.traj": "".join(f"{i}.5 0 0.1 0.2 {i} 0 0\n" for i in range(3))}


def polycam(images: list[Path]) -> dict[str, str]:
    images += [Path(f"keyframes/images/{i}.jpg") for i in range(3)]
    camera = {f"t_{r}{c}": float(r == c) for r in range(3) for c in range(4)}
    camera |= {"fx": 10, "fy": 11, "cx": 4, "cy": 3, "width": 8, "height": 6}
    return {f"keyframes/cameras/{i}.json": json.dumps(camera | {"t_03": i}) for i in range(3)}


def record3d(images: list[Path]) -> dict[str, str]:
    images += [Path(f"rgb/{i}.jpg") for i in range(3)]
    poses = [[0, 0, 0, 1, i, 0, 0] for i in range(3)]
    lenses = [[10, 10, 4, 3 + i / 10] for i in range(3)]
    metadata = {"w": 8, "h": 6, "K": [10, 0, 0, 0, 10, 0, 4, 3, 1], "poses": poses}
    return {"metadata.json": json.dumps(metadata | {"perFrameIntrinsicCoeffs": lenses})}


def scanner_app(images: list[Path]) -> dict[str, str]:
    images += [Path(f"frame_0000{i}.jpg") for i in range(3)]
    frame = {"intrinsics": [float(v) for v in K.split()]}
    return {
        f"frame_0000{i}.json": json.dumps(
            frame | {"cameraPoseARFrame": [*map(float, pose.split()), 0, 0, 0, 1]}
        )
        for i, pose in enumerate(POSES)
    }


FORMATS = [
    tum, ace, twelve_scenes, cambridge, scannet, kitti, euroc, opensfm, llff, arkit_scenes, polycam, record3d,
    scanner_app,
]  # fmt: skip


def plain(images: list[Path]) -> dict[str, str]:
    images += [Path(f"{folder}/{i}.png") for i in range(3) for folder in ("images", "depth")]
    texts = {"poses.txt": "".join(f"{i}.png 1 0 0 0 {i} 0 0\n" for i in range(3)), "query.txt": "1.png\n"}
    return texts | {"cameras.txt": "1 OPENCV 8 6 10 11 4 3 0.1 0 0 0\n"}


def seven_scenes(images: list[Path]) -> dict[str, str]:
    images += [Path(f"seq-01/frame-00000{i}.color.png") for i in range(3)]
    return {f"seq-01/frame-00000{i}.pose.txt": f"{pose} 0 0 0 1" for i, pose in enumerate(POSES)}


def colmap(images: list[Path]) -> dict[str, str]:
    images += [Path(f"images/a/{i}.png") for i in range(3)]
    return {
        "sparse/0/cameras.txt": "7 SIMPLE_RADIAL 8 6 10 4 3 0.1\n",
        "sparse/0/images.txt": "".join(f"{i + 3} 1 0 0 0 {i} 0 0 7 a/{i}.png\n\n" for i in range(3)),
    }


def nerfstudio(images: list[Path]) -> dict[str, str]:
    images += [Path(f"images/{i}.png") for i in range(3)]
    matrices = [np.array(pose.split(), float).reshape(3, 4).tolist() for pose in POSES]
    frames = [{"file_path": f"images/{i}.png", "transform_matrix": m} for i, m in enumerate(matrices)]
    return {"transforms.json": json.dumps({"fl_x": 10, "cx": 4, "cy": 3, "w": 8, "h": 6, "frames": frames})}


OTHERS = [plain, seven_scenes, colmap, nerfstudio]


def write_recording(format: Callable[[list[Path]], dict], folder: Path) -> list[str]:
    """Its texts with pictures of noise, 8 by 6 pixels but for 7-Scenes' 640 by 480; the names of the texts."""
    images: list[Path] = []
    texts = format(images)
    width, height = (640, 480) if format is seven_scenes else (8, 6)
    generator = np.random.default_rng(0)
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        shape, dtype = (
            ((height, width), np.uint16) if "depth" in image.parts[0] else ((height, width, 3), np.uint8)
        )
        noise = generator.integers(1, np.iinfo(dtype).max, shape, dtype=dtype)
        assert cv2.imwrite(str(folder / image), noise)
    for name, content in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(texts)
