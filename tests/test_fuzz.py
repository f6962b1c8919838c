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


@pytest.mark.parametrize("reader", TARGETS, indirect=True)
def test_the_valid_file_is_read(reader):
    reader(reader.valid)
