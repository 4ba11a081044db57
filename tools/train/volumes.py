"""What the recipe does around the network: orientation, grid, intensity, sliding windows, findings."""
import numpy as np
import torch
from scipy import ndimage

SPACING_MM = 1.5
WINDOW, OVERLAP, SIGMA_SCALE = 96, 0.25, 0.125
MIN_VOLUME_ML, MIN_DIAMETER_MM = 0.03, 4.0


def to_ras(array):
    """[k][j][i] of an axial LPS volume as [x][y][z], x to the right, y to anterior, z to superior."""
    return array.transpose(2, 1, 0)[::-1, ::-1]


def resample(volume, spacing_mm, size=None, inverse=False):
    """Trilinear, MONAI's grid: first voxel centres aligned, size round((n-1)*in/out+1), edges repeated."""
    if size is None:
        size = [int(np.round((n - 1) * s / SPACING_MM + 1)) for n, s in zip(volume.shape, spacing_mm)]
    for axis, (n, s) in enumerate(zip(size, spacing_mm)):
        at = np.arange(n) * (s / SPACING_MM if inverse else SPACING_MM / s)
        at = np.clip(at, 0, volume.shape[axis] - 1)
        low = np.minimum(at.astype(int), volume.shape[axis] - 2)
        part = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        volume = np.take(volume, low, axis) * (1 - part) + np.take(volume, low + 1, axis) * part
    return volume


def intensity(hu):
    """HU as the network sees it."""
    return np.clip((hu.astype(np.float32) + 1000) / 1400, 0, 1)


def starts(n):
    step = int(WINDOW * (1 - OVERLAP))
    return sorted({min(a, n - WINDOW) for a in range(0, n - WINDOW + step, step)})


def infer(network, x):
    """Blended scores of a prepared volume [x][y][z] and how many windows it took."""
    pad = [((WINDOW - n) // 2, WINDOW - n - (WINDOW - n) // 2) if n < WINDOW else (0, 0) for n in x.shape]
    padded = np.pad(x, pad, mode="edge")
    t = np.arange(WINDOW) - (WINDOW - 1) / 2
    g = np.exp(-t * t / (2 * (SIGMA_SCALE * WINDOW) ** 2))
    weight = np.maximum(g[:, None, None] * g[None, :, None] * g[None, None, :], 1e-3).astype(np.float32)
    total, weights = np.zeros(padded.shape, np.float32), np.zeros(padded.shape, np.float32)
    count = 0
    with torch.inference_mode():
        for a in starts(padded.shape[0]):
            for b in starts(padded.shape[1]):
                for c in starts(padded.shape[2]):
                    box = (slice(a, a + WINDOW), slice(b, b + WINDOW), slice(c, c + WINDOW))
                    window = torch.from_numpy(np.ascontiguousarray(padded[box]))[None, None]
                    total[box] += network(window)[0, 0].numpy() * weight
                    weights[box] += weight
                    count += 1
    inner = tuple(slice(p[0], p[0] + n) for p, n in zip(pad, x.shape))
    return (total / weights)[inner], count


def findings(score, spacing_mm, above):
    """26-connected components of scores above a threshold: centre (voxel), volume ml, highest score."""
    labels, _ = ndimage.label(score > above, np.ones((3, 3, 3)))
    found = []
    for index, box in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[box] == index
        at = np.argwhere(inside)
        volume_ml = len(at) * float(np.prod(spacing_mm)) / 1000
        longest_mm = float(np.linalg.norm((at.max(0) - at.min(0)) * np.array(spacing_mm)))
        if volume_ml < MIN_VOLUME_ML or longest_mm < MIN_DIAMETER_MM:
            continue
        found.append({"centre": (at.mean(0) + [s.start for s in box]).tolist(), "volume_ml": volume_ml,
                      "score": float(score[box][inside].max())})
    return found
