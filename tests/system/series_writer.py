"""Writes DICOM series from arrays with pydicom, so that a test knows every voxel and every place."""
import pathlib

import numpy
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1",
            "PT": "1.2.840.10008.5.1.4.1.1.130"}


def decimal(value):
    """A number in the 16 characters of a DS."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= 16:
            return text
    raise ValueError(value)


class Geometry:
    """Where slices lie: LPS mm; k ascends along row x column unless `step` says otherwise."""

    def __init__(self, origin=(0.0, 0.0, 0.0), row=(1.0, 0.0, 0.0), column=(0.0, 1.0, 0.0), spacing_ij=(1.0, 1.0),
                 step=(0.0, 0.0, 2.5)):
        self.origin, self.row, self.column, self.step = (numpy.array(v, float) for v in (origin, row, column, step))
        self.spacing_ij = spacing_ij

    def position(self, k):
        return self.origin + k * self.step


def _instance(modality, classes, study, series, number):
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = classes[modality]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    data.is_little_endian, data.is_implicit_VR = True, False
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = study, series
    data.FrameOfReferenceUID = series[:60] + ".1"
    data.Modality, data.PatientID, data.PatientName = modality, "WRITTEN", "Written^Series"
    data.InstanceNumber, data.SeriesNumber = number, 1
    data.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    return data


def _pixels(data, stored):
    stored = numpy.ascontiguousarray(stored)
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape[-2:]
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(stored.dtype == numpy.int16)
    data.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def write_series(folder, stored, geometry, modality="CT", slope=1, intercept=0, study=None, series=None, change=None):
    """One file per slice of `stored` [k][j][i] (int16 or uint16); `change(dataset, k)` has the last word.

    Returns the files in order of k.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    study, series = study or generate_uid(), series or generate_uid()
    files = []
    for k, values in enumerate(stored):
        data = _instance(modality, CLASSES, study, series, k + 1)
        data.ImagePositionPatient = [decimal(v) for v in geometry.position(k)]
        data.ImageOrientationPatient = [decimal(v) for v in (*geometry.row, *geometry.column)]
        data.PixelSpacing = [decimal(geometry.spacing_ij[1]), decimal(geometry.spacing_ij[0])]
        data.RescaleSlope, data.RescaleIntercept = decimal(slope), decimal(intercept)
        _pixels(data, values)
        if change:
            change(data, k)
        files.append(folder / f"{len(list(folder.iterdir())):05}.dcm")
        data.save_as(files[-1], write_like_original=False)
    return files


def _group(**values):
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return Sequence([item])


def write_enhanced(path, stored, geometry, order, modality="CT", slope=1, intercept=0, study=None, series=None,
                   change=None):
    """One file with the slices of `stored` [k][j][i] as frames in that order; `change(functional groups, k)`."""
    data = _instance(modality, ENHANCED, study or generate_uid(), series or generate_uid(), 1)
    data.NumberOfFrames = len(order)
    shared = Dataset()
    shared.PlaneOrientationSequence = _group(
        ImageOrientationPatient=[decimal(v) for v in (*geometry.row, *geometry.column)])
    shared.PixelMeasuresSequence = _group(
        PixelSpacing=[decimal(geometry.spacing_ij[1]), decimal(geometry.spacing_ij[0])], SliceThickness="1")
    data.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = _group(ImagePositionPatient=[decimal(v) for v in geometry.position(k)])
        frame.PixelValueTransformationSequence = _group(
            RescaleSlope=decimal(slope), RescaleIntercept=decimal(intercept), RescaleType="US")
        frame.FrameContentSequence = _group(StackID="1", InStackPositionNumber=int(k) + 1)
        if change:
            change(frame, k)
        frames.append(frame)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    _pixels(data, numpy.stack([stored[k] for k in order]))
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, write_like_original=False)
    return path


def rewrite(path, change):
    """Reads a file, changes its dataset, writes it back."""
    data = pydicom.dcmread(path)
    change(data)
    data.save_as(path)
