"""The solver without a camera: a small network learns to fit lines in noisy pictures.

Each picture shows a line, broken and half hidden by discs. A network looks at it and answers, for each of 64
cells, a point that may lie on the line and how far to trust it. Differentiable RANSAC fits a line through the
points, and the network is trained on nothing but the distance of that line from the true one.

A line is a rigid motion `line_from_image` that lays it on the x axis: a point's error is then |y|. The problem
is told to the solver in three parts, and everything else is the code that finds camera poses:

    TwoPoints         minimal solver: the line through two points
    LineDistance      residual: distance of a point to the line
    LeastSquaresLine  refinement: weighted total least squares

    python examples/01_fit_a_line.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dsac import Camera, Correspondences, Pose, PoseSolver
from dsac.ransac import DSAC, Hypotheses, SoftInlierCount, UniformSampling

SIDE = 48  # pixels of a picture; coordinates in it go from 0 to 1
CELLS = 8  # the network answers on a grid of CELLS x CELLS


# ---- the problem ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class LineDistance:
    """Distance of a point to a line."""

    threshold: float = 0.03
    max_error: float = 1.0

    def sanitise(self, correspondences: Correspondences) -> Correspondences:
        return correspondences.sanitised()

    def errors(self, line_from_image: Pose, correspondences: Correspondences) -> Tensor:
        distance = (line_from_image @ correspondences.scene_points[:, None])[..., 1].abs()
        return distance.clamp(max=self.max_error)


@dataclass(frozen=True)
class TwoPoints:
    """The line through two points."""

    sample_size: int = 2

    def __call__(self, correspondences: Correspondences, samples: Tensor) -> Hypotheses:
        images = torch.arange(len(samples))[:, None, None]
        ends = correspondences.scene_points[images, samples]
        first, second = ends[..., 0, :2], ends[..., 1, :2]
        valid = (second - first).norm(dim=-1) > 1e-3
        along = torch.where(valid[..., None], second - first, torch.tensor([1.0, 0.0]))
        line_from_image = line(first, nn.functional.normalize(along, dim=-1))
        return Hypotheses(line_from_image, samples, valid, torch.where(valid, 0.0, torch.inf))


@dataclass(frozen=True)
class LeastSquaresLine:
    """Total least squares in closed form, each point weighted by its trust and its soft inlier weight."""

    residual: LineDistance
    rounds: int = 3

    def __call__(self, poses: Pose, correspondences: Correspondences, generator=None) -> Pose:
        points = correspondences.scene_points[:, None, :, :2]
        scale = self.residual.threshold
        for _ in range(self.rounds):
            errors = self.residual.errors(poses, correspondences)
            inlier = torch.sigmoid(5 * (1 - errors / scale)).detach()
            weights = correspondences.weights[:, None] * inlier + 1e-6
            weights = (weights / weights.sum(-1, keepdim=True))[..., None]
            middle = (weights * points).sum(-2)
            dx, dy = (points - middle[..., None, :]).unbind(-1)
            w = weights[..., 0]
            angle = 0.5 * torch.atan2(2 * (w * dx * dy).sum(-1), (w * (dx * dx - dy * dy)).sum(-1))
            poses = line(middle, torch.stack([angle.cos(), angle.sin()], dim=-1))
        return poses


def line(point: Tensor, direction: Tensor) -> Pose:
    """The motion `line_from_image` that moves `point` to the origin and `direction` (unit) onto the x axis."""
    (x, y), zero = direction.unbind(-1), torch.zeros_like(direction[..., 0])
    rotation = torch.stack([x, y, zero, -y, x, zero, zero, zero, zero + 1], dim=-1).unflatten(-1, (3, 3))
    point = torch.cat([point, zero[..., None]], dim=-1)
    return Pose(rotation, -(rotation @ point[..., None])[..., 0])


def line_loss(line_from_image: Pose, truth: Pose) -> Tensor:
    """Mean distance of the line from two points of the true one, in percent of the picture's side."""
    ends = truth.inverse() @ torch.tensor([[-0.4, 0.0, 0.0], [0.4, 0.0, 0.0]])
    return 100 * (line_from_image @ ends)[..., 1].abs().mean(-1)


def solver() -> PoseSolver:
    residual = LineDistance()
    return PoseSolver(
        num_hypotheses=32,
        residual=residual,
        sampling=UniformSampling(),
        minimal=TwoPoints(),
        scoring=SoftInlierCount(residual),
        selection=DSAC(temperature=5.0),
        refinement=LeastSquaresLine(residual),
    )


# ---- pictures ------------------------------------------------------------------------------------


def pictures(count: int, generator: torch.Generator) -> tuple[Tensor, Pose]:
    """Pictures (count, 1, SIDE, SIDE) and their lines: gaps in the line, bright discs, noise."""

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    angle = torch.pi * random(count)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    truth = line(0.3 + 0.4 * random(count, 2), direction)
    grid = (torch.arange(SIDE) + 0.5) / SIDE
    y, x = torch.meshgrid(grid, grid, indexing="ij")
    pixels = torch.stack([x, y, torch.zeros_like(x)], dim=-1).reshape(-1, 3)
    along, across, _ = (truth @ pixels).unbind(-1)  # (count, pixels)
    gaps = torch.sin(2 * torch.pi * (3 * along + random(count, 1))) > 0.5
    image = torch.exp(-((across * SIDE) ** 2)) * ~gaps
    for _ in range(4):
        middle, radius = random(count, 1, 2), 0.05 + 0.1 * random(count, 1)
        distance = (pixels[None, :, :2] - middle).norm(dim=-1)
        image = torch.where(distance < radius, random(count, 1), image)
    image = image + 0.15 * torch.randn(image.shape, generator=generator)
    return image.reshape(count, 1, SIDE, SIDE), truth


# ---- the network ---------------------------------------------------------------------------------


class PointNetwork(nn.Module):
    """A picture to 64 points in it and a weight for each."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, stride in ((16, 2), (32, 3), (48, 1), (48, 1)):
            layers += [nn.Conv2d(channels, width, 3, stride, padding=1), nn.ReLU()]
            channels = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 3, 1))

    def forward(self, images: Tensor) -> Correspondences:
        raw = self.layers(images).flatten(2).mT  # (B, cells, 3)
        grid = (torch.arange(CELLS) + 0.5) / CELLS
        y, x = torch.meshgrid(grid, grid, indexing="ij")
        cells = torch.stack([x, y], dim=-1).reshape(-1, 2)
        points = cells + 0.2 * torch.tanh(raw[..., :2])
        flat = torch.cat([points, torch.zeros_like(points[..., :1])], dim=-1)
        # a line needs no camera, correspondences have one: any will do
        ones = torch.ones(len(images), 2)
        return Correspondences(
            SIDE * cells.expand(len(images), -1, 2),
            flat,
            Camera(ones, ones, (SIDE, SIDE)),
            weights=torch.sigmoid(raw[..., 2]),
        )


# ---- training ------------------------------------------------------------------------------------


def train(steps: int, batch: int = 32, seed: int = 0) -> PointNetwork:
    """End to end on the expected loss of the line, from a random start."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network, ransac = PointNetwork(), solver()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for _ in range(steps):
        images, truth = pictures(batch, generator)
        loss = ransac.expected_loss(network(images), truth, line_loss, generator).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network


@torch.no_grad()
def fit(network: PointNetwork, images: Tensor) -> tuple[Pose, Correspondences]:
    """The most probable line of each picture and what it was fitted to."""
    ransac, points = solver(), network(images)
    generator = torch.Generator().manual_seed(0)
    lines = ransac.refined(ransac.hypotheses(points, generator), points, generator)
    best = lines.weights.argmax(-1)
    return lines.cam_from_world[torch.arange(len(best)), best], points


def draw(path: Path, images: Tensor, truth: Pose, networks: dict[str, PointNetwork]) -> None:
    """Pictures with points (larger where trusted), the true line (green) and the fitted one (red)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(networks), len(images), figsize=(2.2 * len(images), 4.6), squeeze=False)
    for row, (name, network) in zip(axes, networks.items(), strict=True):
        lines, points = fit(network, images)
        errors = line_loss(lines, truth)
        for i, axis in enumerate(row):
            axis.imshow(images[i, 0].numpy(), cmap="gray", extent=(0, 1, 1, 0), vmin=-0.3, vmax=1.3)
            x, y, _ = points.scene_points[i].numpy().T
            axis.scatter(x, y, s=25 * points.weights[i].numpy(), c="tab:blue")
            for motion, color in ((truth[i], "tab:green"), (lines[i], "tab:red")):
                ends = (motion.inverse() @ torch.tensor([[-2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])).numpy()
                axis.plot(ends[:, 0], ends[:, 1], color=color)
            axis.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[], title=f"{name}: {errors[i]:.1f} %")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train a network to fit lines, end to end.")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--picture", type=Path, default=Path("fit_a_line.png"))
    options = parser.parse_args(arguments)

    images, truth = pictures(200, torch.Generator().manual_seed(1))
    networks = {"before": train(0), "after": train(options.steps)}
    for name, network in networks.items():
        errors = line_loss(fit(network, images)[0], truth)
        print(
            f"{name:>6} training: median {errors.median():5.2f} % of the side, "
            f"{100 * (errors < 3).float().mean():3.0f} % of lines within 3 %"
        )
    draw(options.picture, images[:5], truth[:5], networks)
    print(f"picture: {options.picture}")


if __name__ == "__main__":
    main()
