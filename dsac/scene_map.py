"""The map file: what was learned of a scene with everything needed to use it, and no more.

A map is a regressor: encoder, then head. Either the encoder is shared and ships with the package, and the file
holds the head alone; or a network was trained whole, or forests grew, and the file holds both. Beside it stand
the landmarks and the described points. Fine-tuning may add weights: of the encoder, where it was trained too,
and of a score network.

A safetensors file; its metadata say, as JSON, the format version, the encoder (id and digest), the architecture
of what is in it, the scene's bounds, the mapping settings and source: nothing is guessed from the weights.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Bool
from torch import Tensor, nn

import dsac
from dsac.datasets import Frames
from dsac.datasets.frame import digest_of
from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.geometry import Camera, Pose
from dsac.landmarks import DescribedPoints, Landmarks, LookAlikes, Remembered
from dsac.map_scoring import NETWORK, RULES, MapScoring, scoring_from_json
from dsac.networks import local_features
from dsac.networks.encoder import Encoder, fast_dtype, load_encoder
from dsac.networks.forests.forest import ForestArchitecture, ForestEncoder, LeafHead
from dsac.networks.heads import HeadArchitecture, LinearHead, SceneHead
from dsac.networks.scene_networks import NetworkArchitecture, SceneNetwork
from dsac.ransac import DenseSolver, Solver
from dsac.regressor import Head, Regressor

FORMAT_VERSION = 1
# begin the names of tensors of what is remembered
_LANDMARK, _DESCRIBED, _LOOK_ALIKE = "landmark.", "described.", "look_alike."


@dataclass(frozen=True)
class MapInfo:
    """What a map says about itself. Raises: `ValueError` for values that no map can have."""

    encoder_id: str
    encoder_digest: str
    head: HeadArchitecture | None  # None: a network trained whole, or forests
    stride: int  # pixels per cell
    short_side_px: int  # images are resized to this before they are encoded
    bounds_min: tuple[
        float, float, float
    ]  # box around the scene points seen while mapping, metres, map's frame
    bounds_max: tuple[float, float, float]
    depth_range: tuple[float, float]  # of the scene points from the cameras that saw them, metres
    num_frames: int
    supervision: str  # "depth" or "poses"
    source: str  # the recording: path and format
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the mapping, for the record
    training: Mapping[str, Any] = field(default_factory=dict)  # steps, seconds, last loss, whether interrupted
    created: str = ""  # date and time, UTC
    network: NetworkArchitecture | None = None  # of a network trained whole
    forest: ForestArchitecture | None = None
    own_encoder: bool = False  # the map holds weights of its own for the encoder of that id
    scoring: MapScoring = RULES[0]  # of hypotheses
    metric: bool | None = None  # whether the unit of length is the metre; None: nobody said
    camera: str = ""  # of middling focal length among the mapping images', by `Camera.to_text`; empty: unknown
    focal_range: tuple[float, float] | None = None  # of the mapping cameras' `relative_focal`
    described_by: str = ""  # id of the local features of its described points; empty: it has none
    as_stored: bool = False  # mapping images were read as they are stored, though viewers turn some of them
    # The frames that it was made from: names, each with the digest of its image file (16 hexadecimal digits),
    # empty where files cannot be told. No names: a map from before they were kept.
    frames: Mapping[str, str] = field(default_factory=dict)
    # Where the map's own frame stands in the world, metres: poses and points of a map are float32 about this
    # place, which keeps georeferenced recordings (UTM, ECEF) exact. The axes are the world's.
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
    dsac_version: str = dsac.__version__
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        for name in ("encoder_id", "encoder_digest", "supervision", "source", "created", "camera"):
            _check(isinstance(getattr(self, name), str), name, "text", self)
        for name, least, most in (("stride", 1, 256), ("short_side_px", 1, 16_384), ("num_frames", 0, 2**53)):
            value = getattr(self, name)
            _check(type(value) is int and least <= value <= most, name, f"a whole number up to {most}", self)
        for name, length in (("bounds_min", 3), ("bounds_max", 3), ("depth_range", 2), ("origin", 3)):
            _check(_are_numbers(getattr(self, name), length), name, f"{length} finite numbers", self)
        if self.focal_range is not None:
            good = _are_numbers(self.focal_range, 2) and 0 < self.focal_range[0] <= self.focal_range[1]
            _check(good, "focal_range", "two numbers above 0, the lower first", self)
        for name in ("own_encoder", "as_stored"):
            _check(isinstance(getattr(self, name), bool), name, "true or false", self)
        _check(self.described_by in ("", local_features.ID), "described_by", local_features.ID, self)
        _check(self.metric in (None, True, False), "metric", "true, false or nothing", self)
        for name in ("settings", "training", "frames"):
            _check(isinstance(getattr(self, name), Mapping), name, "names with values", self)
        _check(
            all(type(digest) is str for digest in self.frames.values()), "frames", "names with digests", self
        )
        learned = [part for part in (self.head, self.network, self.forest) if part is not None]
        _check(len(learned) == 1, "head", "either a head, a network or a forest", self)
        if self.camera:
            Camera.from_text(self.camera)

    @staticmethod
    def from_json(text: str) -> MapInfo:
        """From what a map file says. Raises: `ValueError`, `TypeError`, `LookupError` for something else."""
        fields = json.loads(text)
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise MapFormatError(
                f"expected map format {FORMAT_VERSION}, got {version} (written by dsac "
                f"{fields.get('dsac_version', 'unknown')}): use that version, or map the scene again"
            )
        _as_written_now(fields)
        for name, parse in (
            ("head", lambda value: HeadArchitecture(**value)),
            ("network", lambda value: NetworkArchitecture(**value)),
            ("forest", ForestArchitecture.from_json),
            ("scoring", scoring_from_json),
            *((name, tuple) for name in ("bounds_min", "bounds_max", "depth_range", "focal_range", "origin")),
        ):
            if fields.get(name) is not None:
                fields[name] = parse(fields[name])
        return MapInfo(**fields)


def _as_written_now(fields: dict[str, Any]) -> None:
    """Brings the metadata of maps from before up to date."""
    fields.pop("camera_spacing", None)  # nobody read it
    if (architecture := fields.pop("score_network", None)) is not None:
        fields["scoring"] = {"name": NETWORK, "architecture": architecture}


def _check(good: bool, name: str, expected: str, info: MapInfo) -> None:
    if not good:
        raise ValueError(f"{name}: expected {expected}, got {getattr(info, name)!r}")


def _are_numbers(values: object, length: int) -> bool:
    return (
        isinstance(values, tuple)
        and len(values) == length
        and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    )


@dataclass(frozen=True, eq=False)
class SceneMap:
    """What is known of one scene: scene coordinates are learned, landmarks remembered."""

    head: Head
    info: MapInfo
    encoder: nn.Module | None = None  # an `Encoder` with weights of the map's own; None: see `load_encoder`
    score_network: nn.Module | None = None  # what the rule of scoring has learned, if it learns
    landmarks: Landmarks | None = None
    described: DescribedPoints | None = None
    look_alikes: LookAlikes | None = None  # of the landmarks' views; None, or none: the place repeats nothing

    def __post_init__(self) -> None:
        if self.look_alikes:
            views = 0 if self.landmarks is None else len(self.landmarks.focal_px)
            if self.look_alikes.view.max() >= views:
                raise ValueError(f"look-alikes: expected views below {views}, the landmarks' number")
        if self.info.head is None and self.encoder is None:
            raise ValueError(f"encoder: expected the map's own network {self.info.encoder_id}, got None")

    @property
    def num_values(self) -> int:
        """Learned values in the file."""
        return sum(p.numel() for module in _modules(self).values() for p in module.parameters())

    @property
    def memory(self) -> Remembered | None:
        """What it remembers of its images, by which poses become exact; None: nothing."""
        if self.landmarks is None:
            return None
        return Remembered(self.landmarks, self.described, self.look_alikes)

    @property
    def share_repeated(self) -> float:
        """Of the views that landmarks come from, how many look like others of another place."""
        if self.landmarks is None or self.look_alikes is None:
            return 0.0
        return len(self.look_alikes.views) / max(1, len(self.landmarks.focal_px))

    @property
    def mapping_camera(self) -> Camera | None:
        """A typical one of the mapping images, if the map knows."""
        return Camera.from_text(self.info.camera) if self.info.camera else None

    def learned_from(self, frames: Frames) -> Bool[np.ndarray, " N"]:
        """Which of the frames this map was made from: those with one of its image files, whatever their names.

        Where files cannot be told (rendered rooms, bags), those of the same name.
        Raises: `DatasetError` for an image file that cannot be read.
        """
        own = self.info.frames
        digests = {digest for digest in own.values() if digest}

        def is_own(name: str) -> bool:
            digest = digest_of(frames.reader, name) if own else ""
            return digest in digests if digest and own.get(name) != "" else name in own

        return np.array([is_own(name) for name in frames.names], dtype=bool)

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all: into a neighbour first, then renamed over.

        Weights are stored in half precision. Raises: `OSError` when the disk is full or not writable.
        """
        path = Path(path)
        tensors = {
            prefix + name: _as_stored(name, value.detach().cpu()).contiguous()
            for prefix, module in _modules(self).items()
            for name, value in module.state_dict().items()
        }
        if self.landmarks is not None:
            tensors |= {_LANDMARK + name: value for name, value in self.landmarks.tensors().items()}
        if self.described is not None:
            tensors |= {_DESCRIBED + name: value for name, value in self.described.tensors().items()}
        if self.look_alikes:
            tensors |= {_LOOK_ALIKE + name: value for name, value in self.look_alikes.tensors().items()}
        data = safetensors.torch.save(tensors, {"dsac": json.dumps(asdict(self.info))})
        write_atomically(path, data)

    @staticmethod
    def load(path: str | Path) -> SceneMap:
        """Read a map file.

        Raises: `MapFormatError` when the file is missing, damaged, no map or of another format version.
        """
        path = Path(path)
        metadata, tensors = read_map_file(path)
        what = "damaged map metadata"
        try:
            info = MapInfo.from_json(metadata)
            what = "the weights do not fit the architecture it names"
            return _with_weights(info, tensors)
        except MapFormatError as error:
            raise MapFormatError(f"{path}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise MapFormatError(f"{path}: {what} ({' '.join(repr(error).split())})") from None

    def frozen(self) -> SceneMap:
        """This map, its modules now on the CPU and not to be trained."""
        for module in _modules(self).values():
            module.cpu().eval().requires_grad_(False)
        return self

    def check_encoder(self, encoder: Encoder) -> None:
        """Raises: `MapFormatError` when the map was made with another encoder."""
        if (encoder.id, encoder.digest) != (self.info.encoder_id, self.info.encoder_digest):
            raise MapFormatError(
                f"the map was made with encoder {self.info.encoder_id} ({self.info.encoder_digest}), "
                f"got {encoder.id} ({encoder.digest}): map the scene again, or pass that encoder"
            )

    def regressor(self, encoder: Encoder | None = None, device: torch.device | str = "cpu") -> Regressor:
        """What predicts scene coordinates, with a copy of the head; `encoder`: where the map's does not ship.

        Raises: `MapFormatError` when the encoder is not the map's, or does not ship and is not given.
        """
        if encoder is None:
            encoder = self.load_encoder(device)
        self.check_encoder(encoder)
        head = copy.deepcopy(self.head).to(device)
        return Regressor(encoder, head, self.info.short_side_px, self.info.focal_range)

    def solver(self, device: torch.device | str = "cpu") -> Solver:
        """What localizes photos by this map's rule of scoring, with a copy of what that has learned."""
        if self.info.forest is not None:  # most of its modes are right to some centimetres, or wrong
            return DenseSolver.rgb(threshold_px=4.0)
        network = None if self.score_network is None else copy.deepcopy(self.score_network).to(device)
        return self.info.scoring.solver(network)

    def in_world(self, cam_from_map: Pose) -> Pose:
        """Poses in the world's frame, float64, of poses (any batch) in the map's, which is at `origin`."""
        pose = cam_from_map.to(torch.float64)
        if not any(self.info.origin):
            return pose
        pose = Pose.from_quaternion(pose.quaternion_wxyz, pose.translation)  # a rotation to the last digit
        origin = pose.translation.new_tensor(self.info.origin)
        return Pose(pose.rotation, pose.translation - pose.rotation @ origin)

    def load_encoder(self, device: torch.device | str = "cpu") -> Encoder:
        """The encoder that the map was made with, its own or the shipped one, in the device's fast precision.

        Raises: `MapFormatError` when it does not ship.
        """
        if isinstance(self.encoder, ForestEncoder):  # which knows no device and no precision but its own
            return copy.deepcopy(self.encoder)
        if self.encoder is not None:
            encoder = copy.deepcopy(self.encoder).to(device, fast_dtype(device))
            return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        try:
            encoder = load_encoder(self.info.encoder_id, device)
        except ValueError as error:
            raise MapFormatError(
                f"the map was made with encoder {self.info.encoder_id}, which does not ship: pass it ({error})"
            ) from None
        self.check_encoder(encoder)
        return encoder


def read_map_file(path: Path) -> tuple[str, dict[str, Tensor]]:
    """The metadata of a map file, a JSON object, and its tensors.

    Raises: `MapFormatError` when it is no map file.
    """
    if not path.is_file():
        raise MapFormatError(f"{path}: expected a map file, found {'a folder' if path.is_dir() else 'nothing'}")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise MapFormatError(
            f"{path}: expected a map file, got something else or half of one ({error})"
        ) from None
    if "dsac" not in metadata:
        raise MapFormatError(
            f"{path}: expected a map made by dsac, got a safetensors file without its metadata"
        )
    return metadata["dsac"], tensors


def _modules(scene_map: SceneMap) -> dict[str, nn.Module]:
    """What has weights in the file, by the prefix of their names; the head, which has none, last."""
    parts = {"encoder.": scene_map.encoder, "score_network.": scene_map.score_network, "": scene_map.head}
    return {prefix: module for prefix, module in parts.items() if module is not None}


def _with_weights(info: MapInfo, tensors: dict[str, Tensor]) -> SceneMap:
    """A map of the architectures that it names, with the file's weights and landmarks.

    Modules are made without memory and take the file's tensors: nothing is computed before shapes agree.
    Raises: `MapFormatError` and what goes with things that do not fit.
    """
    of_landmarks, of_described, of_look_alikes = (
        _taken_out(tensors, prefix) for prefix in (_LANDMARK, _DESCRIBED, _LOOK_ALIKE)
    )
    landmarks = Landmarks.from_tensors(of_landmarks) if of_landmarks else None
    described = DescribedPoints.from_tensors(of_described) if of_described else None
    look_alikes = LookAlikes.from_tensors(of_look_alikes) if of_look_alikes else None
    for name, value in tensors.items():
        if not (_is_whole(value) or (value.is_floating_point() and torch.isfinite(value).all())):
            raise ValueError(f"{name}: expected finite numbers")
    with torch.device("meta"):
        encoder, head = None, None
        if info.network is not None:
            encoder = SceneNetwork(info.network)
            head = LinearHead(encoder.num_features)
        elif info.forest is not None:
            encoder = ForestEncoder(info.forest)
            head = LeafHead(info.forest.color[2] + info.forest.depth[2], info.forest.typical_depth)
        elif info.head is not None:
            head = SceneHead(info.head)
        score_network = info.scoring.network()
    assert head is not None
    if info.own_encoder:
        try:
            encoder = load_encoder(info.encoder_id).float()
        except ValueError as error:
            raise MapFormatError(str(error)) from None
        encoder.digest = info.encoder_digest
    scene_map = SceneMap(head, info, encoder, score_network, landmarks, described, look_alikes)
    for prefix, module in _modules(scene_map).items():
        names = [name for name in tensors if name.startswith(prefix)]
        state = {name.removeprefix(prefix): tensors.pop(name) for name in names}
        state = {name: value if _is_whole(value) else value.float() for name, value in state.items()}
        module.load_state_dict(state, assign=True)
    if isinstance(encoder, ForestEncoder) and isinstance(head, LeafHead):
        encoder.check(head)
    return scene_map.frozen()


def _taken_out(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin so, by the rest of their names; removed from `tensors`."""
    named = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in named}


def _as_stored(name: str, value: Tensor) -> Tensor:
    """Weights in half precision; what they are about, and the whole numbers of trees, as they are."""
    if _is_whole(value):
        return value
    return value.float() if name.startswith(("feature_", "scene_")) else value.half()


def _is_whole(value: Tensor) -> bool:
    return value.dtype in (torch.int16, torch.int32)
