"""Streams give what a file holds, piece by piece, and never more than they were asked for."""

import os
import zlib
from io import BytesIO

import pytest

from dicom_io.files.byte_streams import INFLATED_ANYWAY, LARGEST_RATIO, PIECE, Inflated, Plain, Stream

CONTENT = os.urandom(3 * PIECE) + bytes(3 * PIECE)


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


@pytest.fixture(params=[Plain, Inflated])
def stream(request: pytest.FixtureRequest) -> Stream:
    made: Stream = request.param(BytesIO(CONTENT if request.param is Plain else deflated(CONTENT)))
    return made


def test_what_is_read_passed_over_and_looked_at(stream: Stream):
    """Each counts from where the one before ended, but for looking."""
    assert stream.read(10) == CONTENT[:10]
    assert stream.peek(10) == CONTENT[10:20]
    stream.skip(PIECE + 1)
    assert stream.position == PIECE + 11
    assert stream.read(PIECE) == CONTENT[PIECE + 11 : 2 * PIECE + 11]
    stream.skip(len(CONTENT) - stream.position - 3)
    assert stream.peek(10) == CONTENT[-3:]
    assert stream.read(3) == CONTENT[-3:]
    assert stream.peek(1) == b""


@pytest.mark.parametrize("count", [len(CONTENT) + 1, 1 << 40])
def test_more_than_there_is(stream: Stream, count: int):
    with pytest.raises(EOFError):
        stream.read(count)


def test_a_plain_file_from_its_middle():
    """Positions count from its beginning."""
    file = BytesIO(CONTENT)
    file.seek(100)
    stream = Plain(file)
    assert (stream.position, stream.size) == (100, len(CONTENT))
    assert stream.read(5) == CONTENT[100:105]


def test_deflated_data_that_are_cut_or_damaged():
    content = deflated(CONTENT)
    for length in (0, 1, 1000, len(content) - 1):
        with pytest.raises(EOFError):
            Inflated(BytesIO(content[:length])).skip_all()
    with pytest.raises(zlib.error):
        Inflated(BytesIO(b"\xff" * 1000)).skip_all()
    Inflated(BytesIO(content + b"more")).skip_all()


def test_data_that_inflate_to_too_much():
    """Up to a size nothing is asked, beyond it a hundred times what came."""
    few, many = bytes(INFLATED_ANYWAY // 2), bytes(4 * INFLATED_ANYWAY)
    Inflated(BytesIO(deflated(few))).skip_all()
    stream = Inflated(BytesIO(deflated(many)))
    with pytest.raises(zlib.error, match="too much"):
        stream.skip_all()
    assert stream.position <= INFLATED_ANYWAY + LARGEST_RATIO * PIECE
