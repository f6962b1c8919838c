"""Every reader of files that may be hostile, each with a valid file: for tests/test_fuzz.py and, for hours, tests/fuzz.py."""

import tarfile
import zipfile
from functools import cache
from io import BytesIO

import numpy as np
import torch
import yaml
from commands import ROOT
from pictures import make_real_iad
from PIL import Image

from decodiff.config import load
from decodiff.data.archives import unpack
from decodiff.data.images import as_rgb, decode
from decodiff.data.layouts import read_layout
from decodiff.data.manifest import check_entries, refuse
from decodiff.data.maps import foreign_maps
from decodiff.data.rows import Row, read_positions, read_rows, write_positions, write_rows
from decodiff.errors import InputError
from decodiff.files import read_array, read_json, remove
from decodiff.models.autoencoder import Autoencoder, build_autoencoder, load_autoencoder, save_autoencoder
from decodiff.models.names import CONFIG_FILE, WEIGHTS_FILE
from decodiff.models.reference import load_reference, start_from
from decodiff.models.storage import States, save_network
from decodiff.models.unet import build_unet, load_unet
from decodiff.stages.compare import read_resamples
from decodiff.stages.evaluate import RESAMPLES_FILE


@cache
def unet():
    return build_unet("UNet_nano", 2)


def row():
    known = dict(category="nut", split="test", label=1, defect="bent", mask="m.png", width=8, height=8, sha256="0" * 64)
    return Row(image="nut/0.png", **known)


def manifest(folder):
    write_rows(folder / "file", [row()] * 3)
    return lambda path: read_rows(path)


def positions(folder):
    write_positions(folder / "file", [(7, row()), (9, row())])
    return lambda path: read_positions(path)


def config(folder):
    text = yaml.safe_dump(yaml.safe_load((ROOT / "config/demo.yaml").read_text()), sort_keys=False)
    (folder / "file").write_text(text)
    return lambda path: load(path)


def states(folder):
    saved = States(folder / "net", {"a": 1})
    saved.save(3, {"model": unet().state_dict(), "step": 3})
    (state,) = folder.glob("net-state-*.pt")
    state.rename(folder / "file")

    def read(path):
        path.rename(state)
        try:
            States(folder / "net", {"a": 1}).load()
        finally:
            state.unlink(missing_ok=True)

    return read


def checkpoint(folder):
    torch.save({"model": {"input_blocks.0.0.weight": torch.zeros(32, 4, 3, 3)}, "args": None}, folder / "file")

    def read(path):
        for what in (lambda: load_reference(path, "UNet_nano", 2), lambda: start_from(path, unet())):
            try:
                what()
            except InputError as error:
                check_message(error)

    return read


def predictions(folder):
    torch.save({"anomaly_maps": torch.rand(1, 4, 4), "image_path": ["nut/bent/0.png"]}, folder / "file")
    (folder / "masks/nut/bent").mkdir(parents=True)
    Image.new("L", (4, 4), 255).save(folder / "masks/nut/bent/0.png")
    return lambda path: foreign_maps(path, folder / "masks", "mine", "standard").maps(np.array([0]))


def weights(folder, save, read, fuzzed):
    """One file of a network's folder is changed, the other is as it was."""
    save(folder / "network")
    if fuzzed == WEIGHTS_FILE:  # without the checksum, which would refuse every change
        text = (folder / "network" / CONFIG_FILE).read_text().replace("weights_sha256", "other")
        (folder / "network" / CONFIG_FILE).write_text(text)
    place = folder / "network" / fuzzed
    place.rename(folder / "file")

    def read_changed(path):
        path.replace(place)
        read(folder / "network")

    return read_changed


def save_unet(folder):
    folder.mkdir()
    save_network(unet(), folder)


def save_coder(folder):
    save_autoencoder(Autoencoder(build_autoencoder(4, 2, 1, 4)), folder)


def array(folder):
    np.save(folder / "file", np.arange(12, dtype=np.float32).reshape(3, 4))
    (folder / "file.npy").rename(folder / "file")
    return lambda path: read_array(path, (None, 4))[:].sum()


def json_file(folder):
    (folder / "file").write_text('{"a": [1, 2.5, "x"], "b": null}')
    return lambda path: read_json(path)


def image(folder):
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(folder / "file", "PNG")
    return lambda path: as_rgb(decode(path.read_bytes(), path), path)


def tar(folder):
    with tarfile.open(folder / "file", "w", format=tarfile.PAX_FORMAT) as archive:
        item = tarfile.TarInfo("a/ü.png")
        item.size, item.pax_headers = 3, {"comment": "x"}
        archive.addfile(item, BytesIO(b"abc"))
    return unpacked(folder)


def zipped(folder):
    with zipfile.ZipFile(folder / "file", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/ü.png", b"abc")
        archive.writestr("b/", b"")
    return unpacked(folder)


def unpacked(folder):
    """Nothing but the folder of what was unpacked may be new, and only when all went well."""

    def read(path):
        before = set(folder.iterdir())
        try:
            unpack(path, folder / "images")
        except InputError:
            assert set(folder.iterdir()) == before
            raise
        finally:
            remove(folder / "images")
        assert set(folder.iterdir()) == before

    return read


def own_list(folder):
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    lines = ["image,split,category,label,mask,defect", "a.png,train,nut,0,,", "a.png,test,nut,1,a.png,bent"]
    (folder / "file").write_text("\n".join(lines) + "\n")

    def read(path):
        found = check_entries(read_layout("csv", path, ()), (), folder, folder, threads=1)
        refuse(found[1], folder / "problems.txt")

    return read


def real_iad(folder):
    make_real_iad(folder, ("usb",))
    place = folder / "realiad_jsons/realiad_jsons/usb.json"
    place.rename(folder / "file")

    def read(path):
        path.replace(place)
        found = check_entries(read_layout("real_iad", folder, ("usb",)), ("usb",), folder, folder, threads=1)
        refuse(found[1], folder / "problems.txt")

    return read


def resamples(folder):
    names = np.array(["a"])
    known = dict(categories=names, fingerprints=names, metrics=names, protocol=names)
    np.savez_compressed(folder / "file.npz", measured=np.zeros((1, 1)), resamples=np.zeros((1, 1, 20), np.float32), **known)
    (folder / "file.npz").rename(folder / "file")

    def read(path):
        path.replace(folder / RESAMPLES_FILE)
        read_resamples(folder)

    return read


TARGETS = {
    "manifest": manifest,
    "positions": positions,
    "config": config,
    "states": states,
    "checkpoint": checkpoint,
    "predictions": predictions,
    "unet-weights": lambda folder: weights(folder, save_unet, load_unet, WEIGHTS_FILE),
    "unet-config": lambda folder: weights(folder, save_unet, load_unet, CONFIG_FILE),
    "autoencoder-weights": lambda folder: weights(folder, save_coder, load_autoencoder, WEIGHTS_FILE),
    "autoencoder-config": lambda folder: weights(folder, save_coder, load_autoencoder, CONFIG_FILE),
    "array": array,
    "json": json_file,
    "image": image,
    "tar": tar,
    "zip": zipped,
    "list": own_list,
    "real-iad": real_iad,
    "resamples": resamples,
}


def check_message(error):
    assert str(error).isprintable() and str(error), repr(str(error))


class Reader:
    """A reader with a valid file of its kind.

    Attributes:
        valid: the content of that file.
    """

    def __init__(self, target, folder):
        self._file, self._read = folder / "file", TARGETS[target](folder)
        self.valid = self._file.read_bytes()
        self._file.unlink()
        self._folder = folder

    def __call__(self, content):
        """Read a file of that content. Any error but a one-line `InputError` comes through."""
        self._file.write_bytes(content)
        try:
            self._read(self._file)
        except InputError as error:
            check_message(error)
        finally:
            self._file.unlink(missing_ok=True)
