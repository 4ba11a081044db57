"""A golden case's folder as it is: where its series lies, which models it has, what must come out."""
import dataclasses
import json
import pathlib
import shutil
import tarfile

import numpy


@dataclasses.dataclass
class Expected:
    """One answer of a case: the import options that lead to it, and labels or boxes."""
    name: str
    import_options: list
    labels: numpy.ndarray | None = None  # uint8 [k][j][i], or [t][k][j][i]
    boxes: list | None = None            # of boxes*.json
    seconds: float = 0                   # of the reference's own forward passes
    models: list | None = None           # other files than the case's first ones


class Case:
    def __init__(self, folder, data):
        self.folder = pathlib.Path(folder)
        self.data = pathlib.Path(data)
        self.document = json.loads((self.folder / "case.json").read_text())
        self.name = self.folder.name

    @property
    def models(self):
        """TorchScript files; several are the folds of an ensemble."""
        model = self.document["model"]
        return [(self.folder / name).resolve() for name in model.get("files") or [model["file"]]]

    @property
    def other_models(self):
        """(what it is, files) of the same network exported another way: the same answer is due."""
        return [(key.removesuffix("_file").replace("_", " "), [(self.folder / name).resolve()])
                for key, name in self.document.get("model", {}).items() if key.endswith("_file") and name]

    @property
    def is_nnunet(self):
        return str(self.document.get("kind", "")).startswith("nnunet") or "plans_file" in self.document

    @property
    def directions(self):
        """Unit vectors along i, j, k, LPS."""
        geometry = self.document["geometry"]
        return numpy.array([geometry["dir_i"], geometry["dir_j"], geometry["dir_k"]])

    def write_series(self, target):
        """The case's DICOM files in a folder of their own."""
        target = pathlib.Path(target)
        archive = self.folder / "dicom.tar.gz"
        if archive.exists():
            # Debian 12's Python has no filters for archives yet: regular files alone, side by side.
            target.mkdir(parents=True, exist_ok=True)
            with tarfile.open(archive) as tar:
                for member in tar:
                    if member.isfile():
                        (target / member.name.replace("/", "_")).write_bytes(tar.extractfile(member).read())
            return target
        source = self.data / "dicom" / self.document["series"]
        names = self.document.get("files")
        if source.is_file():
            source, names = source.parent, [source.name]
        if names in (None, "all"):
            return source
        target.mkdir()
        for name in names:
            shutil.copy(source / name, target / name)
        return target

    def noise_voxels(self):
        """How many voxels change when the reference itself is run another way in float32; over all time points."""
        counts = [0]
        for name, entry in self.document.get("noise_floor", {}).items():
            if "autocast" in name or "bfloat16" in name or "float16_" in name:
                continue
            parts = entry if isinstance(entry, list) else [entry]
            counts.append(sum(part.get("voxels_differ", 0) for part in parts))
        return max(counts)

    def _seconds(self, *keys):
        """The first of these times that the case states."""
        times = self.document.get("times_this_machine", {})
        return next((float(times[key]) for key in (*keys, "infer_s") if key in times), 0.0)

    def _label_answers(self, file):
        arrays = numpy.load(file)
        plain = next(key for key in ("labels_tkji", "labels_kji") if key in arrays.files)
        # nnU-Net's plain labels are always those without test-time mirroring, whether or not it was tried as well.
        options = ["--no-mirroring"] if self.is_nnunet else []
        yield Expected(self.name, options, labels=arrays[plain], seconds=self._seconds("no_tta_infer_s"))
        if "labels_tta_kji" in arrays.files:
            yield Expected(f"{self.name}, mirrored", [], labels=arrays["labels_tta_kji"],
                           seconds=self._seconds("tta_infer_s"))

    def _box_answers(self):
        for file, name, options in (("boxes_monai_1_5.json", self.name, []),
                                    ("boxes.json", f"{self.name}, MONAI 1.6", ["--monai-version", "1.6.1"])):
            if (self.folder / file).exists():
                boxes = json.loads((self.folder / file).read_text())["boxes"]
                yield Expected(name, options, boxes=boxes, seconds=self._seconds())

    def expected(self):
        """Every answer that the folder holds; the first one again for each other file of the network."""
        labels = self.folder / "labels.npz"
        answers = [*(self._label_answers(labels) if labels.exists() else ()), *self._box_answers()]
        answers += [dataclasses.replace(answers[0], name=f"{self.name}, {what}", models=files)
                    for what, files in self.other_models if answers]
        return answers


def find_cases(folder, data, names=()):
    """All folders with a case.json, by name; or those that are named."""
    found = {path.parent.name: Case(path.parent, data) for path in sorted(pathlib.Path(folder).glob("*/case.json"))}
    unknown = [name for name in names if name not in found]
    if unknown:
        raise SystemExit(f"parity: no case {', '.join(unknown)} in {folder}")
    return [case for name, case in found.items() if not names or name in names]
