"""Look for hours for files that a reader does not stand, with coverage as the guide; needs the package ``atheris``.

    python tests/fuzz.py manifest -max_total_time=3600

The first word is a reader of tests/readers.py, the others are options of libFuzzer. It ends with a finding, written to a file
``crash-…`` in the working folder, or when the time is over.
"""

import os
import resource
import sys
import tempfile
from pathlib import Path

import atheris

os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("TQDM_DISABLE", "1")
with atheris.instrument_imports(include=["decodiff", "readers", "yaml", "csv", "json", "tarfile", "zipfile"]):
    import readers
    import torch

# a reader that wants more memory than this is a finding
MEMORY = 12 << 30

if __name__ == "__main__":
    target, *options = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        reader = readers.Reader(target, Path(folder))
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        (corpus / "valid").write_bytes(reader.valid)
        atheris.Setup([sys.argv[0], *options, f"-max_len={2 * len(reader.valid)}", str(corpus)], reader)
        atheris.Fuzz()
