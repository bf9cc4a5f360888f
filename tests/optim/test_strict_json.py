"""JSON with one meaning, and the line of everything."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim import strict_json
from optim.strict_json import StrictJsonError


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('{"a": 1,\n "b": 2,\n "a": 3}', 3, r"'a' stands here twice \(first in line 1\) \(keep one"),
        ('{"a": [1,\n NaN]}', 2, "'NaN' is not a finite number"),
        ("[-Infinity]", 1, "not a finite number"),
        ("NaN", 1, "not a finite number"),
        ('{"a": 1e999}', 1, "too large for a number"),
        ('{"a": ' + "9" * 200 + "}", 1, "too large for a number"),
        ("", 1, "is empty"),
        ('{"a": 1\n "b": 2}', 2, "missing comma"),
        ("{a: 1}", 1, "key without double quotes"),
        ('{"a": no}', 1, "no value that JSON knows"),
        ("[1] [2]", 1, "one file, one value"),
        ('{"a": "x', 1, "not closed"),
        ('{"a" 1}', 1, "without ':'"),
        ('["\\x"]', 1, "escape"),
        ("[NaN, ]]", 1, "not valid JSON"),
        ("[" * 100_000, 1, "nested too deeply"),
    ],
)
def test_a_text_with_several_meanings_or_none_is_refused_at_its_line(text, line, message):
    with pytest.raises(StrictJsonError, match=message) as caught:
        strict_json.load(text)
    assert caught.value.flaws[0].mark.line == line


def test_all_surprises_are_said_at_once():
    with pytest.raises(StrictJsonError) as caught:
        strict_json.load('{"a": NaN,\n"b": {"c": 1, "c": 2},\n"d": [1e999]}')
    assert [flaw.mark.line for flaw in caught.value.flaws] == [1, 2, 3]
    assert [flaw.path for flaw in caught.value.flaws] == [("a",), ("b", "c"), ("d", 0)]


def test_every_value_has_its_line_and_column():
    document = strict_json.locate('{"a": {\n  "b\\"{": 1,\n  "c": ["x", {"d": 5}, []]}}')
    places = {path: (e.key.line, e.key.column, e.value.column) for path, e in document.entries.items()}
    assert places == {
        (): (1, 0, 0),
        ("a",): (1, 1, 6),
        ("a", 'b"{'): (2, 2, 10),
        ("a", "c"): (3, 2, 7),
        ("a", "c", 0): (3, 8, 8),
        ("a", "c", 1): (3, 13, 13),
        ("a", "c", 1, "d"): (3, 14, 19),
        ("a", "c", 2): (3, 23, 23),
    }


DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def paths(data, path=()):
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from paths(value, (*path, key))


@settings(deadline=None)
@given(data=DATA, indent=st.sampled_from([None, 2]))
def test_what_is_written_is_read_back_equal_with_a_place_for_every_value(data, indent):
    document = strict_json.locate(json.dumps(data, indent=indent))
    assert document.data == data
    assert sorted(map(repr, document.entries)) == sorted(map(repr, [(), *paths(data)]))


@settings(deadline=None)
@given(text=st.text(max_size=20) | st.text('ab:[]{}"\\,1.eE-+ \nN', max_size=30))
def test_any_text_is_data_or_a_strict_json_error(text):
    try:
        strict_json.load(text)
    except StrictJsonError as error:
        assert error.flaws
        assert all(flaw.message and flaw.hint and flaw.mark.line >= 1 for flaw in error.flaws)
