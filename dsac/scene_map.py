"""The map file: what was learned of a scene with everything needed to use it, and no more.

A map is a regressor: encoder, then head. Either the encoder is shared and ships with the package, and the file
holds the head alone; or a network was trained whole, or forests grew, and the file holds both. Beside it stand
the landmarks and the described points. Fine-tuning may add weights: of the encoder, where it was trained too,
and of a score network.

A safetensors file, compressed by gzip; its metadata say, as JSON, the format version, the encoder (id and
digest), the architecture of what is in it, the scene's bounds, the mapping settings and source: nothing is
guessed from the weights. Maps from before are not compressed. What a compact map holds stands there in few
levels (`packing.py`).
"""

from __future__ import annotations

import copy
import json
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch
from jaxtyping import Bool
from torch import Tensor, nn

from dsac.datasets import Frames
from dsac.datasets.storage import write_atomically
from dsac.errors import MapFormatError
from dsac.geometry import Camera, Pose
from dsac.landmarks import DescribedPoints, Landmarks, LookAlikes, Remembered
from dsac.map_info import Holds, MapInfo
from dsac.networks.encoder import Encoder, fast_dtype, load_encoder
from dsac.networks.forests.forest import ForestEncoder, LeafHead
from dsac.networks.heads import LinearHead, SceneHead
from dsac.networks.scene_networks import SceneNetwork
from dsac.packing import packed, unpacked
from dsac.ransac import MixtureSolver, Solver
from dsac.regressor import Head, Regressor
from dsac.visual_words import VisualWords

# begin the names of tensors of what is remembered
_LANDMARK, _DESCRIBED, _LOOK_ALIKE, _WORD = "landmark.", "described.", "look_alike.", "visual."


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
    words: VisualWords | None = None  # by which a photo is known to be of this map; None: a map from before

    def __post_init__(self) -> None:
        if self.look_alikes:
            views = 0 if self.landmarks is None else len(self.landmarks.focal_px)
            if self.look_alikes.view.max() >= views:
                raise ValueError(f"look-alikes: expected views below {views}, the landmarks' number")
        if self.info.head is None and self.encoder is None:
            raise ValueError(f"encoder: expected the map's own network {self.info.encoder_id}, got None")

    @property
    def holds(self) -> Holds:
        values = sum(p.numel() for module in _modules(self).values() for p in module.parameters())
        landmarks = len(self.landmarks or ())
        return Holds(values, landmarks, len(self.described or ()), self.share_repeated)

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
        """See `MapInfo`."""
        return self.info.learned_from(frames)

    def save(self, path: str | Path) -> None:
        """Write the file whole or not at all: into a neighbour first, then renamed over.

        Weights are stored in half precision, those of a compact map in less.
        Raises: `OSError` when the disk is full or not writable.
        """
        write_atomically(Path(path), self.to_bytes())

    def compact(self) -> SceneMap:
        """The same map, whose file is a third as large: what it holds is rounded as it is written."""
        return replace(self, info=replace(self.info, compact=True))

    def to_bytes(self) -> bytes:
        """What `save` writes."""
        weights = {
            prefix + name: value.detach().cpu()
            for prefix, module in _modules(self).items()
            for name, value in module.state_dict().items()
        }
        remembered = {
            prefix + name: value
            for prefix, part in (
                (_LANDMARK, self.landmarks),
                (_DESCRIBED, self.described),
                (_LOOK_ALIKE, self.look_alikes or None),
                (_WORD, self.words),
            )
            if part is not None
            for name, value in part.tensors().items()
        }
        if self.info.compact:
            nearest = self.info.depth_range[0]
            weights, remembered = packed(weights, nearest), packed(remembered, nearest)
        tensors = {name: _as_stored(name, value).contiguous() for name, value in weights.items()} | remembered
        data = safetensors.torch.save(tensors, {"dsac": json.dumps(asdict(self.info))})
        # of few levels runs of zeros are all that repeats
        return _deflated(data, zlib.Z_RLE if self.info.compact else zlib.Z_DEFAULT_STRATEGY)

    @staticmethod
    def load(path: str | Path) -> SceneMap:
        """Read a map file.

        Raises: `MapFormatError` when the file is missing, damaged, no map or of another format version.
        """
        return SceneMap.from_bytes(map_bytes(Path(path)), str(path))

    @staticmethod
    def from_bytes(data: bytes, name: str) -> SceneMap:
        """What `load` reads; `name` is for messages. Raises: `MapFormatError`."""
        metadata, tensors = read_map_file(data, name)
        what = "damaged map metadata"
        try:
            info = MapInfo.from_json(metadata)
            what = "the weights do not fit the architecture it names"
            return _with_weights(info, tensors)
        except MapFormatError as error:
            raise MapFormatError(f"{name}: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise MapFormatError(f"{name}: {what} ({' '.join(repr(error).split())})") from None

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
        if self.info.forest is not None:
            return MixtureSolver.rgb()
        network = None if self.score_network is None else copy.deepcopy(self.score_network).to(device)
        return self.info.scoring.solver(network)

    def in_world(self, cam_from_map: Pose) -> Pose:
        """Poses in the world's frame, float64, of poses (any batch) in the map's own."""
        return self.info.world_from_map.pose(cam_from_map)

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


def map_bytes(path: Path) -> bytes:
    """What is in a file that begins as map files do; others, which may be large, are not read.

    Raises: `MapFormatError`.
    """
    if not path.is_file():
        raise MapFormatError(f"{path}: expected a map file, found {'a folder' if path.is_dir() else 'nothing'}")
    with open(path, "rb") as file:
        begin = file.read(9)
        if not (begin.startswith(_GZIP) or begin[8:] == _OBJECT):
            raise MapFormatError(f"{path}: expected a map file, got something else or half of one")
        return begin + file.read()


def read_map_file(data: bytes, name: str) -> tuple[str, dict[str, Tensor]]:
    """The metadata of a map file, a JSON object, and its tensors; `name` is for messages.

    Raises: `MapFormatError` when it is no map file.
    """
    try:
        if data.startswith(_GZIP) and data[8:9] != _OBJECT:
            data = _inflated(data)
        tensors = safetensors.torch.load(data)
        length = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError, zlib.error) as error:
        raise MapFormatError(
            f"{name}: expected a map file, got something else or half of one ({error})"
        ) from None
    if "dsac" not in metadata:
        raise MapFormatError(
            f"{name}: expected a map made by dsac, got a safetensors file without its metadata"
        )
    return metadata["dsac"], tensors


def _deflated(data: bytes, strategy: int) -> bytes:
    """A gzip file of the bytes, the same at any time."""
    deflate = zlib.compressobj(6, zlib.DEFLATED, _AS_GZIP, strategy=strategy)
    return deflate.compress(data) + deflate.flush()


def _inflated(data: bytes) -> bytes:
    """What a gzip file holds. Raises: `ValueError` and `zlib.error` for half of one, or one of far too much."""
    inflate = zlib.decompressobj(_AS_GZIP)
    found = inflate.decompress(data, _MOST_INFLATED + 20 * len(data))
    if not inflate.eof or inflate.unused_data:
        raise ValueError("the compressed file does not end as it should")
    return found


def _modules(scene_map: SceneMap) -> dict[str, nn.Module]:
    """What has weights in the file, by the prefix of their names; the head, which has none, last."""
    parts = {"encoder.": scene_map.encoder, "score_network.": scene_map.score_network, "": scene_map.head}
    return {prefix: module for prefix, module in parts.items() if module is not None}


def _with_weights(info: MapInfo, tensors: dict[str, Tensor]) -> SceneMap:
    """A map of the architectures that it names, with the file's weights and landmarks.

    Modules are made without memory and take the file's tensors: nothing is computed before shapes agree.
    Raises: `MapFormatError` and what goes with things that do not fit.
    """
    tensors = unpacked(tensors)
    of_landmarks, of_described, of_look_alikes, of_words = (
        _taken_out(tensors, prefix) for prefix in (_LANDMARK, _DESCRIBED, _LOOK_ALIKE, _WORD)
    )
    landmarks = Landmarks.from_tensors(of_landmarks) if of_landmarks else None
    described = DescribedPoints.from_tensors(of_described) if of_described else None
    look_alikes = LookAlikes.from_tensors(of_look_alikes) if of_look_alikes else None
    words = VisualWords.from_tensors(of_words) if of_words else None
    for name, value in tensors.items():
        if not (_is_whole(value) or (value.is_floating_point() and torch.isfinite(value).all())):
            raise ValueError(f"{name}: expected finite numbers")
    with torch.device("meta"):
        encoder, head = None, None
        if info.network is not None:
            encoder = SceneNetwork(info.network)
            head = LinearHead(encoder.num_features)
        elif info.forest is not None:
            if "covariance" not in tensors:
                raise MapFormatError("leaves without covariances, of forests from before: map the scene again")
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
    scene_map = SceneMap(head, info, encoder, score_network, landmarks, described, look_alikes, words)
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
    """Weights in half precision; what they are about, and what is packed or of trees, as it is."""
    if not value.is_floating_point() or value.dtype == torch.bfloat16:
        return value
    return value.float() if name.startswith(("feature_", "scene_")) else value.half()


def _is_whole(value: Tensor) -> bool:
    return value.dtype in (torch.int16, torch.int32)


_AS_GZIP = zlib.MAX_WBITS | 16  # for zlib
# how such a file begins, and how that begins, after eight bytes, which a safetensors file says of itself
_GZIP, _OBJECT = b"\x1f\x8b\x08", b"{"
_MOST_INFLATED = 64_000_000  # bytes, and twenty for each: a small file is refused that asks for all memory
