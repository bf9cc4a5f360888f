import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from airsim.errors import DataError
from airsim.learn.data.idx import parse_idx


def to_idx(array):
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@given(hypothesis_numpy.arrays(np.uint8, hypothesis_numpy.array_shapes(max_dims=3, max_side=5)))
def test_an_array_written_as_idx_is_read_back(array):
    np.testing.assert_array_equal(parse_idx(to_idx(array), "file"), array)


@given(st.integers(1, 20))
def test_a_file_that_is_cut_short_or_too_long_is_refused(cut):
    content = to_idx(np.ones((4, 5), dtype=np.uint8))
    with pytest.raises(DataError, match="labels"):
        parse_idx(content[:-cut], "labels")
    with pytest.raises(DataError, match="asks for 32"):
        parse_idx(content + bytes(cut), "labels")


def test_other_formats_and_other_types_are_refused():
    with pytest.raises(DataError, match="starts with 1f8b"):
        parse_idx(bytes.fromhex("1f8b0800"), "images")
    with pytest.raises(DataError, match="starts with nothing"):
        parse_idx(b"", "images")
    with pytest.raises(DataError, match="type 0x0d"):
        parse_idx(bytes([0, 0, 0x0D, 1, 0, 0, 0, 0]), "images")
