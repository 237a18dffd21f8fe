import pytest

from cacheproxy.wire.dialect import MalformedStream
from cacheproxy.wire.openai_merge import grows, joined, merge


def merged(*fragments, texts_grow=True):
    node = {}
    for fragment in fragments:
        merge(node, fragment, texts_grow=texts_grow)
    return joined(node)


@pytest.mark.parametrize(
    ("fragments", "whole"),
    [
        pytest.param([{"content": "a"}, {"content": "b"}], {"content": "ab"}, id="texts grow"),
        pytest.param([{"new_field": "a"}, {"new_field": "b"}], {"new_field": "ab"}, id="unknown texts grow"),
        pytest.param([{"a": None}, {"a": "x"}, {"a": None}], {"a": "x"}, id="null erases nothing"),
        pytest.param([{"a": None}], {"a": None}, id="null stays when nothing else comes"),
        pytest.param([{"role": "assistant"}] * 2, {"role": "assistant"}, id="labels are repeated"),
        pytest.param([{"name": "f"}, {"name": ""}], {"name": "f"}, id="an empty label erases nothing"),
        pytest.param([{"n": 1}, {"n": 2}], {"n": 2}, id="the newest number stays"),
        pytest.param([{"o": {"a": "x"}}, {"o": {"b": 1}}], {"o": {"a": "x", "b": 1}}, id="objects merge"),
        pytest.param([{"l": [1]}, {"l": [2, 3]}], {"l": [1, 2, 3]}, id="lists grow"),
        pytest.param([{"l": []}, {"l": []}], {"l": []}, id="empty lists stay"),
        pytest.param(
            [{"l": [{"index": 1, "t": "b"}]}, {"l": [{"index": 0, "t": "a"}, {"index": 1, "t": "c"}]}],
            {"l": [{"index": 1, "t": "bc"}, {"index": 0, "t": "a"}]},
            id="elements merge by index",
        ),
        pytest.param(
            [{"l": [{"index": 0, "id": "x"}]}, {"l": [{"index": 0, "id": "x", "t": "a"}]}],
            {"l": [{"index": 0, "id": "x", "t": "a"}]},
            id="an id may be repeated",
        ),
    ],
)
def test_fragments_come_together(fragments, whole):
    assert merged(*fragments) == whole


def test_where_texts_do_not_grow_the_newest_stays():
    assert merged({"stop": "a", "o": {"s": "safe"}}, {"stop": 7, "o": {"s": "low"}}, texts_grow=False) == {
        "stop": 7,
        "o": {"s": "low"},
    }


@pytest.mark.parametrize(
    "fragments",
    [
        pytest.param([{"a": "x"}, {"a": 1}], id="text, then number"),
        pytest.param([{"a": 1}, {"a": "x"}], id="number, then text"),
        pytest.param([{"a": "x"}, {"a": ["y"]}], id="text, then list"),
        pytest.param([{"a": {}}, {"a": []}], id="object, then list"),
        pytest.param([{"a": [1]}, {"a": {"b": 1}}], id="list, then object"),
        pytest.param([{"l": [{"index": 0, "id": "x"}]}, {"l": [{"index": 0, "id": "y"}]}], id="two ids at one index"),
    ],
)
def test_fragments_that_contradict_each_other_are_refused(fragments):
    with pytest.raises(MalformedStream):
        merged(*fragments)


def test_a_node_can_grow_after_it_was_joined():
    node = {}
    merge(node, {"a": "x", "l": [{"index": 0, "t": "1"}]}, texts_grow=True)
    before = joined(node)
    merge(node, {"a": "y", "l": [{"index": 0, "t": "2"}]}, texts_grow=True)
    assert before == {"a": "x", "l": [{"index": 0, "t": "1"}]}
    assert joined(node) == {"a": "xy", "l": [{"index": 0, "t": "12"}]}


def test_labels_do_not_grow():
    assert not grows("id")
    assert grows("content")
