"""The map file: what was learned of a scene with everything needed to use it, and no more.

A map is a regressor: encoder, then head. Either the encoder is shared and ships with the package, and the file
holds the head alone; or a network was trained whole, and the file holds both. Beside it stand the landmarks.
Fine-tuning may add weights: of the encoder, where it was trained too, and of a score network.

A safetensors file; its metadata say, as JSON, the format version, the encoder (id and digest), the architecture
of what is in it, the scene's bounds, the mapping settings and source: nothing is guessed from the weights.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

import dsac
from dsac.datasets import Scene
from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.geometry import Camera
from dsac.landmarks import Landmarks
from dsac.networks.encoder import Encoder, fast_dtype, load_encoder
from dsac.networks.heads import Head, HeadArchitecture, LinearHead, SceneHead
from dsac.networks.scene_networks import NetworkArchitecture, SceneNetwork
from dsac.networks.score_network import ScoreArchitecture, ScoreNetwork

FORMAT_VERSION = 1
_LANDMARK = "landmark."  # begins the names of their tensors


@dataclass(frozen=True)
class MapInfo:
    """What a map says about itself."""

    encoder_id: str
    encoder_digest: str
    head: HeadArchitecture | None  # None: a network trained whole
    stride: int  # pixels per cell
    short_side_px: int  # images are resized to this before they are encoded
    bounds_min: tuple[float, float, float]  # box around the scene points seen while mapping, metres
    bounds_max: tuple[float, float, float]
    depth_range: tuple[float, float]  # of the scene points from the cameras that saw them, metres
    num_frames: int
    supervision: str  # "depth" or "poses"
    source: str  # the recording: path and format
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the mapping, for the record
    training: Mapping[str, Any] = field(default_factory=dict)  # steps, seconds, last loss, whether interrupted
    created: str = ""  # date and time, UTC
    network: NetworkArchitecture | None = None  # of a network trained whole
    own_encoder: bool = False  # the map holds weights of its own for the encoder of that id
    score_network: ScoreArchitecture | None = None  # what scores hypotheses; None: the soft inlier count
    metric: bool | None = None  # whether the unit of length is the metre; None: nobody said
    camera: str = ""  # of middling focal length among the mapping images', by `Camera.to_text`; empty: unknown
    focal_range: tuple[float, float] | None = None  # of the mapping cameras' `relative_focal`
    as_stored: bool = False  # mapping images were read as they are stored, though viewers turn some of them
    dsac_version: str = dsac.__version__
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class SceneMap:
    """What is known of one scene: scene coordinates are learned, landmarks remembered."""

    head: Head
    info: MapInfo
    encoder: nn.Module | None = None  # an `Encoder` with weights of the map's own; None: see `load_encoder`
    score_network: ScoreNetwork | None = None
    landmarks: Landmarks | None = None

    def __post_init__(self) -> None:
        if self.info.network is not None and self.encoder is None:
            raise ValueError(f"encoder: expected the map's own network {self.info.network.name}, got None")

    @property
    def num_values(self) -> int:
        """Learned values in the file."""
        return sum(p.numel() for module in _modules(self).values() for p in module.parameters())

    def recorded_in(self, scene: Scene) -> SceneMap:
        """This map with what its recording knows and frames do not: unit, and how photos are stored."""
        return replace(self, info=replace(self.info, metric=scene.metric, as_stored=scene.stores_turned))

    @property
    def mapping_camera(self) -> Camera | None:
        """A typical one of the mapping images, if the map knows."""
        return Camera.from_text(self.info.camera) if self.info.camera else None

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all: into a neighbour first, then renamed over.

        Weights are stored in half precision. Raises: `OSError` when the disk is full or not writable.
        """
        path = Path(path)
        tensors = {
            prefix + name: (
                value.detach().cpu().half() if _is_weight(name) else value.detach().cpu().float()
            ).contiguous()
            for prefix, module in _modules(self).items()
            for name, value in module.state_dict().items()
        }
        if self.landmarks is not None:
            tensors |= {_LANDMARK + name: value for name, value in self.landmarks.tensors().items()}
        data = safetensors.torch.save(tensors, {"dsac": json.dumps(asdict(self.info))})
        write_atomically(path, data)

    @staticmethod
    def load(path: str | Path) -> SceneMap:
        """Read a map file.

        Raises: `MapFormatError` when the file is missing, damaged, no map or of another format version.
        """
        path = Path(path)
        metadata, tensors = read_map_file(path)
        info = _parse_info(path, metadata)
        scene_map = _untrained(path, info)
        remembered = [name for name in tensors if name.startswith(_LANDMARK)]
        landmark_tensors = {name.removeprefix(_LANDMARK): tensors.pop(name) for name in remembered}
        try:
            landmarks = Landmarks.from_tensors(landmark_tensors) if remembered else None
            for prefix, module in _modules(scene_map).items():
                names = [name for name in tensors if name.startswith(prefix)]
                module.load_state_dict({name.removeprefix(prefix): tensors.pop(name) for name in names})
        except (RuntimeError, KeyError) as error:
            raise MapFormatError(
                f"{path}: the weights do not fit the architecture it names ({error})"
            ) from None
        return replace(scene_map, landmarks=landmarks).frozen()

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

    def load_encoder(self, device: torch.device | str = "cpu") -> Encoder:
        """The encoder that the map was made with, its own or the shipped one, in the device's fast precision.

        Raises: `MapFormatError` when it does not ship.
        """
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


def _untrained(path: Path, info: MapInfo) -> SceneMap:
    """A map of the architectures that the metadata name. Raises: `MapFormatError` for an unknown encoder."""
    if info.network is not None:
        network = SceneNetwork(info.network)
        return SceneMap(LinearHead(network.num_features), info, encoder=network)
    assert info.head is not None
    encoder = None
    if info.own_encoder:
        try:
            encoder = load_encoder(info.encoder_id).float()
        except ValueError as error:
            raise MapFormatError(f"{path}: {error}") from None
        encoder.digest = info.encoder_digest
    score_network = None if info.score_network is None else ScoreNetwork(info.score_network)
    return SceneMap(SceneHead(info.head), info, encoder, score_network)


def _is_weight(name: str) -> bool:
    return not name.startswith(("feature_", "scene_"))


def _parse_info(path: Path, text: str) -> MapInfo:
    try:
        fields = json.loads(text)
        version = fields["format_version"]
        if version != FORMAT_VERSION:
            raise MapFormatError(
                f"{path}: expected map format {FORMAT_VERSION}, got {version} (written by dsac "
                f"{fields.get('dsac_version', 'unknown')}): use that version, or map the scene again"
            )
        if fields.get("network") is not None:
            fields["network"] = NetworkArchitecture(**fields["network"])
        else:
            fields["head"] = HeadArchitecture(**fields["head"])
        if fields.get("score_network") is not None:
            fields["score_network"] = ScoreArchitecture.from_json(fields["score_network"])
        for name in ("bounds_min", "bounds_max", "depth_range"):
            fields[name] = tuple(fields[name])
        fields.pop("camera_spacing", None)  # in maps of dsac 0.1.0; nobody read it
        if fields.get("focal_range") is not None:
            fields["focal_range"] = tuple(fields["focal_range"])
        if fields.get("camera"):
            Camera.from_text(fields["camera"])
        return MapInfo(**fields)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise MapFormatError(f"{path}: damaged map metadata ({error!r})") from None
