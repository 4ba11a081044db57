"""TorchScript archives of modules without weights, written by hand: this Python has no torch."""
import struct
import zipfile

HEADER = """class {name}(Module):
  __parameters__ = []
  __buffers__ = []
  training : bool
  _is_full_backward_hook : NoneType
"""


def text_of(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def write_network(path, code, name="Halves", extra=None):
    """`code`: of the class __torch__.<name>; `extra`: texts of files that travel with it, by name."""
    module = b"\x80\x02c__torch__\n" + name.encode() + b"\n)\x81}(" + text_of("training") + b"\x89" + \
        text_of("_is_full_backward_hook") + b"Nub."
    files = [("data.pkl", module), ("code/__torch__.py", code), ("constants.pkl", b"\x80\x02)."), ("version", "3\n")]
    files += [(f"extra/{file}", text) for file, text in (extra or {}).items()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file, data in files:
            archive.writestr(f"archive/{file}", data)
