"""Reads the series that was analysed into one array with its geometry, for drawing only."""
import collections
import dataclasses
import pathlib
import warnings

import numpy
import pydicom
from pydicom.uid import UID


class CannotDraw(Exception):
    """Says, for people and without any value of the study, why there is no picture."""


@dataclasses.dataclass
class Frame:
    """One image plane; `series` and `uid` may be empty where the file has none."""
    path: pathlib.Path
    index: int  # frame number in a multi-frame file, else None
    uid: str
    series: str
    modality: str
    position: numpy.ndarray
    row: numpy.ndarray
    column: numpy.ndarray
    spacing: tuple  # mm along the row (between columns), mm along the column (between rows)
    shape: tuple  # rows, columns


@dataclasses.dataclass
class Volume:
    """Values [k][j][i] in the modality's unit. Voxel (i,j,k) lies at origin + sum of index * spacing * direction, LPS."""
    values: numpy.ndarray
    origin: numpy.ndarray
    directions: numpy.ndarray  # one row per axis i, j, k
    spacing: numpy.ndarray  # mm along i, j, k
    uids: list  # SOP Instance UID per k
    modality: str
    notes: list  # what a reader of the picture must know

    def to_voxel(self, lps):
        """Continuous (i, j, k) of a point in patient space."""
        return (self.directions @ (numpy.asarray(lps, float) - self.origin)) / self.spacing

    def key_slice(self, finding):
        """Index k of the finding's key slice."""
        uid = finding["keySopInstanceUid"]
        if uid and self.uids.count(uid) == 1:
            return self.uids.index(uid)
        return int(numpy.clip(round(self.to_voxel(finding["centreLpsMm"])[2]), 0, len(self.values) - 1))


def _frames(path, data):
    """The planes of one file, ordinary or multi-frame; empty where one has no place in the patient."""
    if data.get("SamplesPerPixel", 1) != 1 or "Rows" not in data:
        return
    common = (str(data.get("SOPInstanceUID", "")), str(data.get("SeriesInstanceUID", "")), str(data.get("Modality", "")))
    groups = data.get("PerFrameFunctionalGroupsSequence")
    shared = data.get("SharedFunctionalGroupsSequence") or [None]
    for index, group in enumerate(groups or [None]):
        def first(sequence, keyword):
            for owner in (group, shared[0]):
                if owner is not None and owner.get(sequence):
                    return owner[sequence].value[0].get(keyword)
            return data.get(keyword)

        position = first("PlanePositionSequence", "ImagePositionPatient")
        cosines = first("PlaneOrientationSequence", "ImageOrientationPatient")
        spacing = first("PixelMeasuresSequence", "PixelSpacing")
        if position is None or cosines is None or spacing is None:
            continue
        cosines = [float(value) for value in cosines]
        yield Frame(path, index if groups else None, *common, numpy.array(position, float), numpy.array(cosines[:3]),
                    numpy.array(cosines[3:]), (float(spacing[1]), float(spacing[0])), (int(data.Rows), int(data.Columns)))


def read_frames(folder):
    """All image planes of a file or folder; files that are no readable images are passed over."""
    folder = pathlib.Path(folder)
    frames = []
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if not path.is_file():
            continue
        try:
            frames += _frames(path, pydicom.dcmread(path, stop_before_pixels=True))
        except Exception:  # whatever a broken file makes the reader say: it is not drawn
            continue
    return frames


def _stack_of(frames, run):
    """The planes that belong together and were analysed, sorted along their normal."""
    analysed = {use["seriesInstanceUid"] for use in (run.get("coverage") or {}).get("series", []) if use["analysed"]}
    chosen = [frame for frame in frames if frame.series in analysed]
    notes = []
    if not chosen:
        chosen = frames
        several = len({frame.series for frame in frames}) > 1
        if not analysed:
            notes.append(f"No series was analysed; the pictures show the {'largest' if several else 'only'} one.")
        elif several:
            notes.append("The analysed series is not found by its UID; the pictures show the largest one.")
    stacks = collections.defaultdict(list)
    for frame in chosen:
        cosines = tuple(numpy.round(numpy.concatenate([frame.row, frame.column]), 2) + 0.0)
        stacks[(frame.series, frame.shape, tuple(numpy.round(frame.spacing, 3)), cosines)].append(frame)
    keys = {finding["keySopInstanceUid"] for finding in run.get("findings", [])}
    stack = max(stacks.values(), key=lambda frames: (sum(frame.uid in keys for frame in frames), len(frames)))
    normal = numpy.cross(stack[0].row, stack[0].column)
    by_place = {}
    for frame in stack:
        by_place.setdefault(round(float(frame.position @ normal), 2), frame)
    if len(by_place) < len(stack):
        notes.append("Several images lie at the same place (time points, echoes); the first of each place is shown.")
    return [by_place[place] for place in sorted(by_place)], normal, notes


def _pixels(files, frame):
    """A frame's values after the modality's rescale."""
    if frame.path not in files:
        files.clear()  # frames come file by file; one decoded file is kept
        data = pydicom.dcmread(frame.path)
        try:
            files[frame.path] = data, data.pixel_array
        except Exception as error:
            syntax = UID(str(data.file_meta.get("TransferSyntaxUID", "")))
            raise CannotDraw(f"The pixels cannot be read here (transfer syntax {syntax.name}); "
                             "Debian's python3-gdcm reads most compressed ones.") from error
    data, pixels = files[frame.path]
    slope, intercept = data.get("RescaleSlope", 1), data.get("RescaleIntercept", 0)
    if frame.index is not None:
        pixels = pixels[frame.index] if pixels.ndim == 3 else pixels
        own = data.PerFrameFunctionalGroupsSequence[frame.index]
        for group in (own, *data.get("SharedFunctionalGroupsSequence", [])):
            if group.get("PixelValueTransformationSequence"):
                transform = group.PixelValueTransformationSequence[0]
                slope, intercept = transform.RescaleSlope, transform.RescaleIntercept
                break
    return pixels.astype(numpy.float32) * float(slope or 1) + float(intercept or 0)


def read_volume(folder, run):
    """The volume that `run` (of findings.json) analysed. Raises CannotDraw."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values of the file
        frames = read_frames(folder)
        if not frames:
            raise CannotDraw("No readable image with a place in the patient is in this folder.")
        stack, normal, notes = _stack_of(frames, run)
        files = {}
        # CT fits 16 bits, which halves the memory; other modalities may have fractions.
        values = numpy.empty((len(stack), *stack[0].shape), numpy.int16 if stack[0].modality == "CT" else numpy.float32)
        for k, frame in enumerate(stack):
            plane = _pixels(files, frame)
            if plane.shape != frame.shape:
                raise CannotDraw("An image's pixels do not have the size that its header says.")
            values[k] = numpy.clip(numpy.rint(plane), -32768, 32767) if values.dtype == numpy.int16 else plane
    places = numpy.array([float(frame.position @ normal) for frame in stack])
    steps = numpy.diff(places)
    step = float(numpy.median(steps)) if len(steps) else 1.0
    if len(steps) and numpy.abs(steps - step).max() > 0.1 * step:
        notes.append("The slices are not evenly spaced; the overview ignores the gaps.")
    first = stack[0]
    return Volume(values, first.position, numpy.array([first.row, first.column, normal]),
                  numpy.array([*first.spacing, step]), [frame.uid for frame in stack], first.modality, notes)


def read_labels(paths, volume):
    """Label map [k][j][i] on the volume's slices, layers laid over each other, from NIfTI files in the volume's grid.
    None without files; raises CannotDraw where a grid does not fit."""
    import nibabel

    merged = None
    for path in paths:
        image = nibabel.load(path)
        labels = numpy.asarray(image.dataobj)
        labels = labels[..., 0] if labels.ndim == 4 else labels
        affine = numpy.diag([-1, -1, 1, 1]) @ image.affine  # NIfTI is RAS
        spacing = numpy.linalg.norm(affine[:3, :3], axis=0)
        fits = (labels.shape[:2] == volume.values.shape[:0:-1]
                and numpy.allclose(spacing[:2], volume.spacing[:2], rtol=1e-3)
                and numpy.allclose(affine[:3, :3] / spacing, volume.directions.T, atol=1e-2))
        offset = volume.directions @ (volume.origin - affine[:3, 3]) / spacing
        if not fits or numpy.abs(offset[:2]).max() > 0.1:
            raise CannotDraw(f"The grid of {path.name} is not that of the series; outlines are left out.")
        where = numpy.rint(offset[2] + numpy.arange(len(volume.values)) * volume.spacing[2] / spacing[2]).astype(int)
        inside = (where >= 0) & (where < labels.shape[2])
        merged = numpy.zeros(volume.values.shape, labels.dtype) if merged is None else merged
        on_slices = numpy.zeros_like(merged)
        on_slices[inside] = labels.transpose(2, 1, 0)[where[inside]]
        merged = numpy.where(on_slices > 0, on_slices, merged)
    return merged
