#!/usr/bin/env python3
"""Writes the demonstration network of models/nodule_blob: a blob filter, made from formulas, without training.

usage: tools/export_nodule_blob.py [OUT]      (default: models/nodule_blob/1/model.ts)

Input  [N, 1, a, b, c]: CT at 1.5 mm, HU -1000..400 mapped to 0..1 and clipped. Any axis order: the filter is
       isotropic.
Output [N, 1, a, b, c]: score 0..1 per voxel, above 0.5 inside solid, compact, air-surrounded blobs.

Per scale (a ball of radius r gives the strongest answer at sigma = r / sqrt(3), Lindeberg 1998):
  response  = -sigma^2 * trace(H), H the Hessian of the Gaussian-smoothed volume, 1 for a solid ball in lung
  roundness = 27 det(H) / trace(H)^3: 1 for a ball, 0 for a tube or a plate in any direction
  air       = Gaussian mean (sigma = 1.2 r) of "is aerated lung": a ball keeps 0.87, a tube 0.71, the wall less
  measure   = response * roundness^2 * gate(air)
Local maxima of the measure over space and scale above a threshold are nodule centres. Voxels near a centre (1.2 r)
that are denser than halfway between lung and soft tissue get its score.
"""
import io
import math
import os
import sys
from typing import List

import torch
from torch import Tensor, nn

SPACING_MM = 1.5
RADII_MM = (2.75, 3.85, 5.4, 7.5, 10.5)
HU_LOW, HU_HIGH = -1000.0, 400.0
LUNG_HU, TISSUE_HU = -850.0, 30.0


def unit(hu: float) -> float:
    """HU as the network sees it."""
    return (hu - HU_LOW) / (HU_HIGH - HU_LOW)


def gaussian(sigma: float, radius: float) -> Tensor:
    """Samples of a Gaussian of unit sum, out to `radius` voxels (at least)."""
    n = math.ceil(radius)
    t = torch.arange(-n, n + 1, dtype=torch.float64)
    g = torch.exp(-t * t / (2 * sigma * sigma))
    return g / g.sum()


def gaussian_derivatives(sigma: float) -> List[Tensor]:
    """Gaussian and its first and second derivative: exact on constants, lines and parabolas."""
    g = gaussian(sigma, 4 * sigma)
    n = g.numel() // 2
    t = torch.arange(-n, n + 1, dtype=torch.float64)
    first = g * t
    first = first / (first * t).sum()
    second = g * (t * t / (sigma * sigma) - 1)
    second = second - second.mean()
    second = second * (2 / (second * t * t).sum())
    return [g, first, second]


class Scale(nn.Module):
    """Everything that one ball radius needs."""

    sigma: float
    ball_edge: float

    def __init__(self, radius_mm: float):
        super().__init__()
        radius = radius_mm / SPACING_MM
        self.sigma = radius / math.sqrt(3)
        g, first, second = gaussian_derivatives(self.sigma)
        self.register_buffer("g", g.float())
        self.register_buffer("first", first.float())
        self.register_buffer("second", second.float())
        self.register_buffer("surround", gaussian(1.2 * radius, 3 * 1.2 * radius).float())
        # A centre paints a Gaussian that falls to exp(-2) of its peak at the ball's edge.
        edge = 1.2 * radius + 0.5
        ball = gaussian(edge / 2, edge)
        self.register_buffer("ball", (ball / ball.max()).float())
        self.ball_edge = math.exp(-2.0)


class NoduleBlob(nn.Module):
    """See the head of this file."""

    threshold: float
    steepness: float
    response_of_ball: float
    air_low: float
    air_high: float
    dense: float
    dense_width: float
    min_air: float

    def __init__(self):
        super().__init__()
        self.scales = nn.ModuleList([Scale(r) for r in RADII_MM])
        self.threshold = 0.565
        self.steepness = 16.0
        # -sigma^2 * trace(H) at the centre of a ball of radius r = sqrt(3) sigma and unit contrast.
        ball = 3 * math.sqrt(3) * math.sqrt(2 / math.pi) * math.exp(-1.5)
        self.response_of_ball = ball * (unit(TISSUE_HU) - unit(LUNG_HU))
        self.air_low = unit(-970.0)
        self.air_high = unit(-600.0)
        self.dense = unit((LUNG_HU + TISSUE_HU) / 2)
        self.dense_width = 100.0 / (HU_HIGH - HU_LOW)
        self.min_air = 0.60

    def band(self, kernel: Tensor, n: int) -> Tensor:
        """[n, n]: column i holds the weights of output i; what lies outside counts as the edge voxel."""
        r = kernel.numel() // 2
        rows = torch.eye(n, dtype=kernel.dtype, device=kernel.device).unsqueeze(1)
        rows = torch.nn.functional.pad(rows, [r, r], mode="replicate")
        return torch.nn.functional.conv1d(rows, kernel.view(1, 1, -1)).squeeze(1)

    def along(self, x: Tensor, kernel: Tensor, axis: int) -> Tensor:
        """Correlates x [N, a, b, c] with a kernel along one axis (1, 2 or 3)."""
        m = self.band(kernel, x.size(axis))
        if axis == 3:
            return torch.matmul(x, m)
        if axis == 2:
            return torch.matmul(m.t(), x)
        flat = torch.matmul(m.t(), x.reshape(x.size(0), x.size(1), -1))
        return flat.view(x.size(0), x.size(1), x.size(2), x.size(3))

    def smooth(self, x: Tensor, kernel: Tensor) -> Tensor:
        return self.along(self.along(self.along(x, kernel, 1), kernel, 2), kernel, 3)

    def highest_around(self, x: Tensor) -> Tensor:
        """Maximum over the 3 x 3 x 3 neighbourhood."""
        for axis in (1, 2, 3):
            n = x.size(axis)
            if n > 1:
                after = torch.cat([x.narrow(axis, 1, n - 1), x.narrow(axis, n - 1, 1)], axis)
                before = torch.cat([x.narrow(axis, 0, 1), x.narrow(axis, 0, n - 1)], axis)
                x = torch.maximum(x, torch.maximum(before, after))
        return x

    def measure(self, x: Tensor, air: Tensor, g: Tensor, first: Tensor, second: Tensor, surround: Tensor,
                sigma: float) -> Tensor:
        z0, z1, z2 = self.along(x, g, 1), self.along(x, first, 1), self.along(x, second, 1)
        y0 = self.along(z0, g, 2)
        xx = self.along(y0, second, 3)
        yy = self.along(self.along(z0, second, 2), g, 3)
        zz = self.along(self.along(z2, g, 2), g, 3)
        xy = self.along(self.along(z0, first, 2), first, 3)
        xz = self.along(self.along(z1, g, 2), first, 3)
        yz = self.along(self.along(z1, first, 2), g, 3)
        trace = xx + yy + zz
        minors = xx * yy + xx * zz + yy * zz - xy * xy - xz * xz - yz * yz
        det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
        bright = (trace < 0) & (minors > 0) & (det < 0)  # all three eigenvalues negative
        safe = torch.where(bright, trace, torch.full_like(trace, -1.0))
        roundness = torch.clamp(27.0 * det / (safe * safe * safe), 0.0, 1.0)
        response = safe * (-sigma * sigma / self.response_of_ball)
        around = self.smooth(air, surround)
        gate = torch.sigmoid((around - self.min_air) * 40.0)
        value = response * roundness * roundness * gate
        return torch.where(bright, value, torch.zeros_like(value))

    def forward(self, volume: Tensor) -> Tensor:
        x = volume[:, 0]
        air = ((x > self.air_low) & (x < self.air_high)).to(x.dtype)
        best = torch.zeros_like(x)
        which = torch.zeros_like(x)
        for i, scale in enumerate(self.scales):
            value = self.measure(x, air, scale.g, scale.first, scale.second, scale.surround, scale.sigma)
            better = value > best
            best = torch.where(better, value, best)
            which = torch.where(better, torch.full_like(which, float(i)), which)
        centre = (best >= self.highest_around(best)) & (best > self.threshold)
        certainty = torch.sigmoid((best - self.threshold) * self.steepness)
        score = torch.zeros_like(x)
        for i, scale in enumerate(self.scales):
            mine = (centre & (which == float(i))).to(x.dtype)
            weight = self.smooth(mine, scale.ball)
            mean = self.smooth(mine * certainty, scale.ball) / torch.clamp(weight, min=1e-3)
            inside = weight >= scale.ball_edge
            score = torch.maximum(score, torch.where(inside, mean, torch.zeros_like(mean)))
        dense = torch.sigmoid((x - self.dense) / self.dense_width)
        return torch.minimum(score, dense).unsqueeze(1)


def main() -> None:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "models", "nodule_blob", "1", "model.ts")
    torch.manual_seed(0)
    network = torch.jit.script(NoduleBlob().eval())
    buffer = io.BytesIO()
    torch.jit.save(network, buffer)
    with open(out, "wb") as file:
        file.write(buffer.getvalue())
    print(f"{out}: {os.path.getsize(out)} bytes")


if __name__ == "__main__":
    main()
