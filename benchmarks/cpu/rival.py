"""SciPy and cc3d on the same data as tomoserve-cpu-bench; each on one thread, as these libraries are.

usage: rival.py resample   INPUT I,J,K SPACING TO REPEAT OUTPUT
       rival.py components INPUT I,J,K REPEAT OUTPUT

resample: int16 to HU in float32, then scipy.ndimage.affine_transform of order 1 (axes apart: its fast path) onto the
grid of MONAI's rule. components: cc3d.connected_components with 26 neighbours, then cc3d.statistics. Prints JSON.
"""
import json
import sys
import time

import numpy


def numbers(text, kind=float):
    return [kind(part) for part in text.split(",")]


def resample(source, size, spacing, to, repeat, target):
    import scipy.ndimage
    size, step = numbers(size, int)[::-1], numpy.array(numbers(to)[::-1]) / numpy.array(numbers(spacing)[::-1])
    stored = numpy.fromfile(source, "<i2").reshape(size)
    shape = tuple(int(numpy.rint((n - 1) / s + 1)) for n, s in zip(size, step))
    seconds = []
    for _ in range(int(repeat)):
        begin = time.perf_counter()
        hounsfield = stored.astype(numpy.float32)
        hounsfield -= 1024
        out = scipy.ndimage.affine_transform(hounsfield, step, output_shape=shape, output=numpy.float32, order=1,
                                             mode="nearest", prefilter=False)
        seconds.append(time.perf_counter() - begin)
    out.tofile(target)
    return {"seconds": seconds, "size_kji": shape}


def components(source, size, repeat, target):
    import cc3d
    labels = numpy.fromfile(source, "u1").reshape(numbers(size, int)[::-1])
    seconds = []
    for _ in range(int(repeat)):
        begin = time.perf_counter()
        found, count = cc3d.connected_components(labels, connectivity=26, return_N=True)
        statistics = cc3d.statistics(found)
        seconds.append(time.perf_counter() - begin)
    found.astype(numpy.uint32).tofile(target)
    boxes = [[[axis.start for axis in box][::-1], [axis.stop - 1 for axis in box][::-1]]
             for box in statistics["bounding_boxes"][1:]]
    return {"seconds": seconds, "components": [
        [int(voxels), *box, centroid[::-1].tolist()] for voxels, box, centroid in
        zip(statistics["voxel_counts"][1:], boxes, statistics["centroids"][1:])]}


if __name__ == "__main__":
    print(json.dumps({"resample": resample, "components": components}[sys.argv[1]](*sys.argv[2:])))
