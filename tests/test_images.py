"""Images and masks as a person would see them, in every form that files come in."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from decodiff.data.images import mask_area, read_mask, read_rgb
from decodiff.data.maps import foreign_maps
from decodiff.errors import InputError
from decodiff.stages.prepare import resized_mask

COLOUR = np.zeros((4, 6, 3), np.uint8)
COLOUR[:, :3] = 200, 100, 50


def as_seen(path):
    return np.asarray(read_rgb(path))


def test_palettes_grey_and_opaque_images(tmp_path):
    plain = Image.fromarray(COLOUR)
    plain.convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "palette.png")
    plain.convert("RGBA").save(tmp_path / "alpha.png")
    for name in ("palette", "alpha"):
        np.testing.assert_array_equal(as_seen(tmp_path / f"{name}.png"), COLOUR)
    plain.convert("L").save(tmp_path / "grey.png")
    np.testing.assert_array_equal(as_seen(tmp_path / "grey.png"), np.repeat(np.asarray(plain.convert("L"))[..., None], 3, 2))
    Image.fromarray(COLOUR[..., 0] > 0).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(as_seen(tmp_path / "bits.png")[..., 0], np.where(COLOUR[..., 0] > 0, 255, 0))


def test_transparent_parts_are_seen_on_white(tmp_path):
    image = np.dstack([COLOUR, np.full((4, 6), 255, np.uint8)])
    image[0, :, 3], image[1, :, 3] = 0, 51
    Image.fromarray(image).save(tmp_path / "glass.png")
    seen = as_seen(tmp_path / "glass.png")
    assert (seen[0] == 255).all(), "what hides behind full transparency is not seen"
    np.testing.assert_allclose(seen[1], 0.2 * COLOUR[1] + 0.8 * 255, atol=1)
    np.testing.assert_array_equal(seen[2:], COLOUR[2:])
    palette = Image.fromarray(COLOUR).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "hole.png", transparency=palette.getpixel((0, 0)))
    seen = as_seen(tmp_path / "hole.png")
    assert (seen[:, :3] == 255).all() and (seen[:, 3:] == 0).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled_and_not_cut(tmp_path, suffix):
    deep = (np.arange(24).reshape(4, 6) * 2800).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / f"deep.{suffix}")
    np.testing.assert_allclose(as_seen(tmp_path / f"deep.{suffix}")[..., 0], deep / 65535 * 255, atol=0.51)
    # a dark one stays dark
    Image.fromarray(deep // 300).save(tmp_path / f"dark.{suffix}")
    assert as_seen(tmp_path / f"dark.{suffix}").max() <= 1


def test_cmyk_is_seen_in_its_colours(tmp_path):
    Image.fromarray(np.full((8, 8, 3), (200, 100, 50), np.uint8)).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    np.testing.assert_allclose(as_seen(tmp_path / "print.jpg"), np.broadcast_to((200, 100, 50), (8, 8, 3)), atol=4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_camera_was(tmp_path, orientation):
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = 255
    # how the pixels lie in the file for each orientation of the EXIF standard
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.transpose(1, 0, 2)} | {
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(upright, -1)
    }  # fmt: skip
    image = Image.fromarray(np.ascontiguousarray(stored[orientation]))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(as_seen(tmp_path / "turned.png"), upright)


def test_floating_point_values_are_refused(tmp_path):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="float.tif: an image of mode F; save it with 8 or 16 bits"):
        read_rgb(tmp_path / "float.tif")
    Image.fromarray(np.full((4, 4), 70000, np.int32)).save(tmp_path / "long.tif")
    with pytest.raises(InputError, match="long.tif: values outside 0 to 65535"):
        read_rgb(tmp_path / "long.tif")


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *extra, content=b""):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + b"".join([header, *extra, chunk(b"IDAT", zlib.compress(content)), chunk(b"IEND", b"")])


def tiff(width, height):
    known = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: height, 279: 10}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in known.items())
    return b"II*\0" + struct.pack("<IH", 8, len(known)) + entries + bytes(4)


def gif(canvas, frame):
    return (
        b"GIF89a"
        + struct.pack("<HH3x", canvas, canvas)
        + b","
        + struct.pack("<5HB", 0, 0, frame, frame, 0, 2)
        + b"\x02L\x01\0;"
    )


def test_an_image_too_large_to_decode_is_refused_before(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(20_000, 20_000))
    with pytest.raises(InputError, match="bomb.png: 20000×20000 pixels, more than the 200,000,000 allowed"):
        read_rgb(tmp_path / "bomb.png")


# some hundred bytes each
HUGE = {
    "png": png(2**31 - 1, 2**31 - 1),
    "tif": tiff(2**31, 2**31),
    "gif": gif(65535, 65535),
    "frame.gif": gif(4, 65535),
    "bmp": b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, 2**30, 2**30, 1, 24, 0, 0, 0, 0, 0, 0),
    "pgm": b"P5 999999999 999999999 255\n",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_few_bytes_that_state_a_huge_picture_are_refused_before_it_is_decoded(tmp_path, name):
    path = tmp_path / f"bomb.{name}"
    path.write_bytes(HUGE[name])
    for read in (read_rgb, read_mask, lambda path: foreign_maps(tmp_path, tmp_path, "mine", "standard").maps(np.array([0]))):
        with pytest.raises(InputError, match="more than the 200,000,000 allowed|no map or mask"):
            read(path)


BOMB = zlib.compress(bytes(20_000_000))


@pytest.mark.parametrize(
    "extra", [(b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")], ids=lambda extra: extra[0].decode()
)
def test_words_of_a_picture_that_unpack_to_megabytes_are_refused(tmp_path, extra):
    (tmp_path / "bomb.png").write_bytes(png(4, 4, chunk(extra[0], extra[1] + BOMB), content=bytes(20)))
    with pytest.raises(InputError, match="bomb.png: not a whole image .*too large"):
        read_rgb(tmp_path / "bomb.png")


def test_what_a_picture_says_besides_and_further_frames_are_left_alone(tmp_path):
    """More rows than it states, a sequence of frames, and a camera's words that point at themselves."""
    (tmp_path / "rows.png").write_bytes(png(4, 4, content=bytes(10_000_000)))
    (tmp_path / "frames.png").write_bytes(png(4, 4, chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0)), content=bytes(20)))
    frames = [Image.new("L", (4, 4), value) for value in (7, 200)]
    for suffix in ("tif", "gif"):
        frames[0].save(tmp_path / f"frames.{suffix}", save_all=True, append_images=frames[1:])
    loop = b"Exif\0\0II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)
    Image.new("L", (4, 4), 7).save(tmp_path / "loop.jpg", exif=loop)
    for path in sorted(tmp_path.iterdir()):
        assert as_seen(path).shape == (4, 4, 3), path.name
        assert as_seen(path).max() == (0 if path.suffix == ".png" else 7), "the first frame"


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(executed) (w) file closefile\nshowpage\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"DDS " + struct.pack("<IIII", 124, 0x1007, 4, 4) + bytes(120),
        b"icns" + struct.pack(">I4sI", 2**31 - 1, b"ic10", 2**31 - 1),
    ],
    ids=["PostScript", "SVG", "DDS", "icons"],
)
def test_formats_that_no_suffix_stands_for_are_not_opened(tmp_path, monkeypatch, content):
    """Pillow would give PostScript to a program that runs it, whatever the file is called."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: Path(tmp_path / "executed").touch())
    monkeypatch.setattr(EpsImagePlugin, "has_ghostscript", lambda: True)
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match="a.png: not a whole image .no picture that can be decoded."):
        read_rgb(tmp_path / "a.png")
    assert not (tmp_path / "executed").exists()


def test_another_file_than_the_manifest_knows_is_refused(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: changed since its manifest was written; fetch"):
        read_rgb(tmp_path / "a.png", "0" * 64)


def test_smoothed_masks_end_at_half_and_class_masks_above_zero(tmp_path):
    def seen(values, name, mode=None):
        image = Image.fromarray(values)
        (image.convert(mode) if mode else image).save(tmp_path / name)
        return mask_area(read_mask(tmp_path / name)).astype(int).tolist()

    assert seen(np.array([[0, 60, 200, 255]], np.uint8), "smooth.png") == [[0, 0, 1, 1]]
    assert seen(np.array([[0, 1, 4, 0]], np.uint8), "classes.png") == [[0, 1, 1, 0]]
    assert seen(np.array([[0, 20000, 60000, 65535]], np.uint16), "deep.png") == [[0, 0, 1, 1]]
    assert seen(np.array([[0, 1, 4, 0]], np.uint16), "deep_classes.png") == [[0, 1, 1, 0]]
    assert seen(np.array([[False, True]]), "bits.png") == [[0, 1]]
    red = np.array([[[0, 0, 0], [255, 0, 0], [0, 0, 255], [40, 0, 0]]], np.uint8)
    assert seen(red, "coloured.png") == [[0, 1, 1, 0]]
    dark = np.array([[[0, 0, 0], [255, 255, 255], [90, 0, 0]]], np.uint8)
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    image.putpalette(dark.reshape(-1).tolist())
    image.save(tmp_path / "palette.png")
    assert mask_area(read_mask(tmp_path / "palette.png")).tolist() == [[False, True, True]]


def test_parts_of_a_mask_must_have_one_size(tmp_path):
    for index, width in enumerate((4, 5)):
        Image.new("L", (width, 4), 255).save(tmp_path / f"{index}.png")
    with pytest.raises(InputError, match="masks of one image with different sizes .0.png 4×4, 1.png 5×4"):
        read_mask(tmp_path)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none: a folder of masks without a mask"):
        read_mask(tmp_path / "none")


def test_the_reference_protocol_grows_small_defects_and_the_standard_one_does_not():
    mask = np.zeros((64, 64), np.uint8)
    mask[20:30, 20:30] = 255
    image = {Path("mask.png"): Image.fromarray(mask)}
    standard, reference = (resized_mask(image, 48, protocol) for protocol in ("standard", "reference"))
    true_area = 100 * (48 / 64) ** 2
    assert abs(standard.sum() - true_area) < 0.15 * true_area
    assert reference.sum() > 1.1 * standard.sum()
    assert (reference >= standard).all()
