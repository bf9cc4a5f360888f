"""YAML with one meaning, and the line of everything."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optim import strict_yaml
from optim.strict_yaml import StrictYamlError


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a: 1e6", {"a": 1e6}),
        ("a: -3", {"a": -3}),
        ("a: .5", {"a": 0.5}),
        ("a: true", {"a": True}),
        ("a: null\nb: ~", {"a": None, "b": None}),
        ("a: 20 dB", {"a": "20 dB"}),
        ("a: 'no'\nb: \"0123\"", {"a": "no", "b": "0123"}),
        ("a: [0 m, 1 m, {b: c}]", {"a": ["0 m", "1 m", {"b": "c"}]}),
        ("on: 1\n8: 2", {"on": 1, "8": 2}),
        ("---\na: 1\n", {"a": 1}),
        ("error-free", "error-free"),
        ("a: |\n  no\n", {"a": "no\n"}),
    ],
)
def test_a_text_with_one_sane_meaning_has_it(text, data):
    read = strict_yaml.load(text).data
    assert read == data
    assert repr(read) == repr(data)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3", 3, r"'a' stands here twice \(first in line 1\) \(keep one"),
        ("a: no", 1, "'no' is true or false to some readers .write false"),
        ("a: Yes", 1, "write true"),
        ("x: [1,\n  on]", 2, "write true"),
        ("a: 0123", 1, "leading zero"),
        ("a: 1:30", 1, "time or a ratio"),
        ("a: 0x1F", 1, "write the decimal number"),
        ("a: 1_000", 1, "underscore"),
        ("a: 2026-01-31", 1, "could be a date"),
        ("a: .inf", 1, "not a finite number"),
        ("a: -.inf", 1, "not a finite number"),
        ("a: .NaN", 1, "not a finite number"),
        ("a: 1e999", 1, "too large for a number"),
        ("a:", 1, "value is empty .write a value, or null"),
        ("", 1, "is empty"),
        ("# nothing\n", 1, "is empty"),
        ("a:\n\tb: 1", 2, "tab is no indentation .*use spaces"),
        ("a: 1\n---\nb: 2", 3, "second document"),
        ("a: [1, 2\nb: 3", 2, "not closed"),
        ("a: b: c", 1, "where no key can stand"),
        ("a: 'x", 1, "close the quote"),
        ("a: &x 1", 1, "anchor or alias"),
        ("a: *x", 1, "anchor or alias"),
        ("a: &\nb: 1", 1, "have a meaning of their own .quote the text"),
        ("  a: 1\nb: 2", 2, "fits no line above"),
        ("a: !!python/object:os.system x", 1, "tag .* is not read here"),
        ("<<: {a: 1}", 1, "key is not a name"),
        ("? [a]\n: 1", 1, "key is not a name"),
        ("a: 1\nb: \x07", 2, "character #x0007 is not allowed"),
        ("[" * 5000, 1, "nested too deeply"),
    ],
)
def test_a_text_with_several_meanings_or_none_is_refused_at_its_line(text, line, message):
    with pytest.raises(StrictYamlError, match=message) as caught:
        strict_yaml.load(text)
    assert caught.value.flaws[0].mark.line == line


def test_all_flaws_are_said_at_once():
    with pytest.raises(StrictYamlError) as caught:
        strict_yaml.load("a: no\nb: 0123\nc: 1\nc: 2")
    assert [flaw.mark.line for flaw in caught.value.flaws] == [1, 2, 4]
    assert [flaw.path for flaw in caught.value.flaws] == [("a",), ("b",), ("c",)]


def test_every_value_has_its_line_and_column():
    document = strict_yaml.load("a:\n  b: 1\n  c: [x, {d: 5}]\n")
    places = {path: (e.key.line, e.key.column, e.value.column) for path, e in document.entries.items()}
    assert places == {
        ("a",): (1, 0, 2),
        ("a", "b"): (2, 2, 5),
        ("a", "c"): (3, 2, 5),
        ("a", "c", 0): (3, 6, 6),
        ("a", "c", 1): (3, 9, 9),
        ("a", "c", 1, "d"): (3, 10, 13),
    }
    assert document.entries[("a", "c")].key.text == "  c: [x, {d: 5}]"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(
    st.characters(
        codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp"), exclude_characters="\ufeff\ufffe\uffff"
    )
)
SURPRISING = st.sampled_from(
    ["no", "1e6", "0123", "1:30", "null", "~", "", "2026-01-01", "1_0", "y", "0x1", ".nan", "- a", "a: b"]
)
KEYS = st.text("abcdefgon.y123", min_size=1, max_size=5) | st.sampled_from(["on", "1e6", "null"])
DATA = st.dictionaries(
    KEYS,
    st.recursive(
        SCALARS | TEXTS | SURPRISING,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=6,
    ),
    min_size=1,
)


@settings(deadline=None)
@given(data=DATA)
def test_what_is_written_is_read_back_equal(data):
    assert strict_yaml.load(strict_yaml.dump(data)).data == data


@settings(deadline=None)
@given(text=st.text(max_size=30) | st.text("ab:-[]{}'\"\n #&*!?|>%@0123e.,", max_size=30))
def test_any_text_is_data_or_a_strict_yaml_error(text):
    try:
        strict_yaml.load(text)
    except StrictYamlError as error:
        assert all(flaw.message and flaw.hint and flaw.mark.line >= 1 for flaw in error.flaws)
