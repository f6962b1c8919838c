"""Readers of files that may be hostile: whatever the bytes, a result or a one-line `InputError`. For hours: tests/fuzz.py."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from readers import TARGETS, Reader


@pytest.fixture(scope="module")
def reader(request, tmp_path_factory):
    return Reader(request.param, tmp_path_factory.mktemp(request.param))


@st.composite
def changes(draw):
    """How to change a file: cut it, and put some bytes in other places of it, over or between what is there."""
    place = st.floats(0, 1)
    pieces = st.one_of(
        st.binary(min_size=1, max_size=9), st.text(min_size=1, max_size=9).map(lambda text: text.encode("utf-8", "replace"))
    )
    return draw(place | st.just(1.0)), draw(st.lists(st.tuples(place, pieces, st.booleans()), max_size=4))


def changed(content, cut, edits):
    content = bytearray(content[: round(cut * len(content))])
    for place, piece, is_over in edits:
        at = round(place * len(content))
        content[at : at + (len(piece) if is_over else 0)] = piece
    return bytes(content)


@pytest.mark.parametrize("reader", TARGETS, indirect=True)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(change=changes(), content=st.none() | st.binary(max_size=60))
def test_whatever_the_bytes_a_result_or_one_line(reader, change, content):
    reader(changed(reader.valid, *change) if content is None else content)


# what hours of tests/fuzz.py found, and what they would hardly find: how each changes the valid file
KEPT = [
    ("positions", lambda valid: valid.replace(b"\n7,", b"\n" + b"7" * 70 + b",")),
    ("positions", lambda valid: valid.replace(b"\n7,", b"\n-7,")),
    ("positions", lambda valid: b"position\n\n" + b"9" * 70 + b"\n"),
    ("checkpoint", lambda valid: valid.replace(b"input_blocks.0", b"input_blocks\n0")),
    ("predictions", lambda valid: valid.replace(b"nut/bent", b"n\nt/bent")),
    ("unet-config", lambda valid: valid.replace(b"latent_channels", b"oatent_channels")),
    ("unet-config", lambda valid: valid.replace(b'"layers": ', b'"layers": 1000000')),
    ("autoencoder-config", lambda valid: valid.replace(b'"scaling_factor": 1.0', b'"scaling_factor": NaN')),
    ("array", lambda valid: valid.replace(b"(3, 4)", b"(9" + b"9" * 17 + b", 4)")),
    ("array", lambda valid: valid.replace(b"(3, 4)", b"(-3, 4)")),
    ("array", lambda valid: valid.replace(b"<f4", b"|O ")),
    ("array", lambda valid: valid.replace(b"<f4", b"<S4")),
    ("array", lambda valid: valid.replace(b"'<f4'", b"'<f4,'").replace(b"(3, 4)", b"(0, 4)")),
    ("array", lambda valid: valid.replace(b"(3, 4)", b"(" * 40)),
    ("json", lambda valid: b"[" * 200_000),
    ("json", lambda valid: b"9" * 10_000),
    ("json", lambda valid: b"\xff\xfe" + valid),
    ("real-iad", lambda valid: valid.replace(b'"usb/"', b'"\\ud800"')),
    ("real-iad", lambda valid: valid.replace(b'"usb/"', b'"\\u0000"')),
    ("real-iad", lambda valid: valid.replace(b'"AK"', b"[1]")),
    ("list", lambda valid: valid.replace(b"a.png", b"a\0.png")),
    ("list", lambda valid: valid.replace(b"nut", b"n" * 200_000)),
    ("list", lambda valid: valid.replace(b"a.png", b'"a\n.png"')),
    ("resamples", lambda valid: b"PK\3\4" + valid),
    ("image", lambda valid: valid.replace(b"IHDR", b"IDAT")),
]


@pytest.mark.parametrize(
    ("reader", "change"), KEPT, indirect=["reader"], ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_was_found_is_kept(reader, change):
    content = change(reader.valid)
    assert content != reader.valid
    reader(content)


@pytest.mark.parametrize("reader", TARGETS, indirect=True)
def test_the_valid_file_is_read(reader):
    reader(reader.valid)
