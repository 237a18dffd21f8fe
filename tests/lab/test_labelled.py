from __future__ import annotations

import gzip

import pytest
from support.corpora import write_lines

from cacheproxy.errors import BadRequest
from cacheproxy.lab.labelled import Pair, read_labelled, texts_of
from cacheproxy.lab.streams import Domain


def test_pairs_are_read(tmp_path):
    file = write_lines(tmp_path / "p.jsonl", [{"a": "x", "b": "y", "same": 1}, {"a": "x", "b": "z", "same": False}])
    assert read_labelled(file) == [Pair("x", "y", same=True), Pair("x", "z", same=False)]
    assert texts_of(read_labelled(file)) == ["x", "y", "x", "z"]


def test_classes_are_read(tmp_path):
    file = write_lines(tmp_path / "c.jsonl", [{"class": 7, "questions": ["a", "b"]}, {"class": 8, "questions": ["c"]}])
    read = read_labelled(file)
    assert isinstance(read, Domain)
    assert read.classes == {"7": ["a", "b"], "8": ["c"]}
    assert texts_of(read) == ("a", "b", "c")


def test_questions_without_a_class_belong_to_none(tmp_path):
    rows = [{"text": "a", "intent": "x"}, {"text": "b", "class": "x"}, {"question": "c"}, {"text": "d"}]
    read = read_labelled(write_lines(tmp_path / "q.jsonl", rows))
    assert read.classes == {"x": ["a", "b"]}
    assert read.filler == ["c", "d"]
    assert read.filler_share == 0.5


def test_a_packed_file_is_read(tmp_path):
    file = tmp_path / "q.jsonl.gz"
    file.write_bytes(gzip.compress(b'{"text": "a", "intent": "x"}\n'))
    assert read_labelled(file).classes == {"x": ["a"]}


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"a": "x", "same": 1}, id="half-a-pair"),
        pytest.param({"a": "x", "b": "y", "same": 2}, id="neither-same-nor-not"),
        pytest.param({"a": "x", "b": 3, "same": 0}, id="no-text"),
    ],
)
def test_a_broken_pair_is_named(tmp_path, row):
    file = write_lines(tmp_path / "p.jsonl", [{"a": "x", "b": "y", "same": 1}, row])
    with pytest.raises(BadRequest, match="line 2"):
        read_labelled(file)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param({"questions": ["a"]}, id="nameless"),
        pytest.param({"class": 1, "questions": "a"}, id="no-list"),
        pytest.param({"class": 1, "questions": [2]}, id="no-texts"),
        pytest.param({"class": 1}, id="no-questions"),
    ],
)
def test_a_broken_class_is_named(tmp_path, row):
    file = write_lines(tmp_path / "c.jsonl", [{"class": 0, "questions": ["a"]}, row])
    with pytest.raises(BadRequest, match="line 2"):
        read_labelled(file)
