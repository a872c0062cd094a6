"""The score network of DSAC: how good is a pose, seen from the image of its reprojection errors.

3x3 convolutions 32, 32/2, 64, 64/2, 128, 128/2, 256, 256/2, 512, 512/2 (/2 = stride), the mean over what is
left of the image, then fully connected 1024, 1024, 1: six million parameters on 40x40 errors clamped at 100 px
(Brachmann et al., CVPR 2017). It is first trained to regress -10 times the loss of noisy poses, then with the
rest of the pipeline. Unlike the soft inlier count it sees where in the image the errors lie, and so tends to
learn the scene by heart (DSAC++).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dsac.errors import MapFormatError

GRID = (40, 40)  # errors the network sees; images of another size are sampled there
WIDTHS = (32, 64, 128, 256, 512)


class ScoreNetwork(nn.Module):
    """Error images `(B,H,h,w)` of any size to scores `(B,H)`.

    Narrower `widths` and `hidden` make a smaller network of the same form.
    """

    def __init__(
        self, max_error: float | int = 100.0, widths: Sequence[int] = WIDTHS, hidden: int = 1024
    ) -> None:
        super().__init__()
        self.max_error = float(max_error)
        layers: list[nn.Module] = []
        channels = 1
        for width in widths:
            for stride in (1, 2):
                layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
                channels = width
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, errors: Float[Tensor, "B H h w"]) -> Float[Tensor, "B H"]:
        """Scores; errors are clamped at `max_error` and scaled to [-1, 1]."""
        images = errors.flatten(0, 1)[:, None].clamp(max=self.max_error)
        images = nn.functional.interpolate(images, GRID, mode="nearest-exact")
        features = self.features(images / (0.5 * self.max_error) - 1).mean((-2, -1))
        return self.head(features).reshape(errors.shape[:2])

    def save(self, path: str | Path) -> None:
        """Write weights and architecture as safetensors."""
        convolutions = [m for m in self.features if isinstance(m, nn.Conv2d)]
        hidden = self.head[0]
        assert isinstance(hidden, nn.Linear)
        metadata = {
            "kind": "dsac score network",
            "max_error": repr(self.max_error),
            "widths": " ".join(str(m.out_channels) for m in convolutions[::2]),
            "hidden": str(hidden.out_features),
        }
        save_file({k: v.contiguous() for k, v in self.state_dict().items()}, str(path), metadata)

    @staticmethod
    def load(path: str | Path) -> ScoreNetwork:
        """Read what `save` wrote. Raises: `MapFormatError` when the file is something else or damaged."""
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
            if metadata.get("kind") != "dsac score network":
                raise MapFormatError(f"{path}: expected a score network, got {metadata.get('kind', 'none')}")
            network = ScoreNetwork(
                float(metadata["max_error"]),
                [int(width) for width in metadata["widths"].split()],
                int(metadata["hidden"]),
            )
            network.load_state_dict(load_file(str(path)))
        except (SafetensorError, KeyError, RuntimeError) as error:
            raise MapFormatError(f"{path}: not a readable score network ({error})") from error
        return network
