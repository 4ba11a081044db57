"""The rival of benchmarks/decode/run: pydicom reads every file of a folder into one array.

usage: python_reader.py FOLDER gdcm|pylibjpeg PROCESSES REPEAT     prints {"seconds": [...], "sha256", "handler"}

Stored values, no rescale: the same work as the server's helpers. With several processes each reads its share of the
files into shared memory, started before the clock.
"""
import hashlib
import io
import json
import multiprocessing
import multiprocessing.shared_memory
import pathlib
import sys
import time

import numpy as np
import pydicom

RLE_LOSSLESS = "1.2.840.10008.1.2.5"


def pixels(data, decoder):
    dataset = pydicom.dcmread(io.BytesIO(data))
    syntax = dataset.file_meta.TransferSyntaxUID
    # A decoder is named, so that none falls back to another one; pydicom 2 and 3 name them differently.
    if syntax.is_compressed:
        if hasattr(pydicom, "pixels"):
            dataset.pixel_array_options(decoding_plugin=decoder)
        else:
            # Its handler for GDCM does not take RLE; it has one of its own.
            dataset.convert_pixel_data("rle" if syntax == RLE_LOSSLESS else decoder)
    return dataset.pixel_array


def read_share(job):
    name, shape, dtype, files, decoder = job
    memory = multiprocessing.shared_memory.SharedMemory(name=name)
    volume = np.ndarray(shape, dtype, buffer=memory.buf)
    for index, data in files:
        volume[index] = pixels(data, decoder)
    del volume
    memory.close()


def main():
    folder, decoder, processes, repeat = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    files = list(enumerate(path.read_bytes() for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()))
    first = pixels(files[0][1], decoder)
    shape = (len(files), *first.shape)
    memory = multiprocessing.shared_memory.SharedMemory(create=True, size=int(np.prod(shape)) * first.dtype.itemsize)
    seconds = []
    try:
        shares = [(memory.name, shape, first.dtype, files[n::processes], decoder) for n in range(processes)]
        if processes == 1:
            for _ in range(repeat):
                started = time.monotonic()
                read_share(shares[0])
                seconds.append(time.monotonic() - started)
        else:
            # Forked workers have the files already: what is timed is reading and decoding, not pickling.
            for _ in range(repeat):
                go = multiprocessing.Event()
                workers = [multiprocessing.Process(target=lambda job: (go.wait(), read_share(job)), args=(job,))
                           for job in shares]
                for worker in workers:
                    worker.start()
                time.sleep(0.2)
                started = time.monotonic()
                go.set()
                for worker in workers:
                    worker.join()
                    if worker.exitcode != 0:
                        sys.exit("a process failed")
                seconds.append(time.monotonic() - started)
        volume = np.ndarray(shape, first.dtype, buffer=memory.buf)
        digest = hashlib.sha256(volume.tobytes()).hexdigest()
        del volume
    finally:
        memory.close()
        memory.unlink()
    print(json.dumps({"seconds": seconds, "sha256": digest, "pydicom": pydicom.__version__, "decoder": decoder}))


if __name__ == "__main__":
    main()
