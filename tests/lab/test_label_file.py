from __future__ import annotations

import json

import pytest
from support.corpora import write_lines

from cacheproxy.core.features import FEATURE_NAMES, Features
from cacheproxy.core.labels import Label, Source
from cacheproxy.errors import BadRequest
from cacheproxy.lab.label_file import are_labels, dump_label, read_labels

FEATURES = Features(*(0.5 for _ in FEATURE_NAMES))
LABEL = Label(7.0, "e1", FEATURES, right=True, source=Source.AUDIT, inclusion=0.05, principal="p")


def row(**changed):
    return json.loads(dump_label(LABEL)) | changed


def test_what_is_written_is_read_again_oldest_first(tmp_path):
    file = write_lines(tmp_path / "l.jsonl", [row(), row(at=3.0)])
    assert [label.at for label in read_labels(file)] == [3.0, 7.0]
    assert read_labels(file)[1] == LABEL


def test_labels_are_told_from_questions(tmp_path):
    assert are_labels(write_lines(tmp_path / "l.jsonl", [row()]))
    assert not are_labels(write_lines(tmp_path / "q.jsonl", [{"text": "Why?"}]))


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(row(right=1), id="right"),
        pytest.param(row(source="hearsay"), id="source"),
        pytest.param(row(features={"similarity": 1}), id="features"),
        pytest.param(row(features=[1]), id="no-names"),
        pytest.param(row(at=None), id="time"),
        pytest.param(row(features=FEATURES._asdict() | {"share": "x"}), id="no-number"),
        pytest.param({key: value for key, value in row().items() if key != "root"}, id="root"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path, broken):
    with pytest.raises(BadRequest, match="line 2"):
        read_labels(write_lines(tmp_path / "l.jsonl", [row(), broken]))
