from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from support.corpora import made_up

from cacheproxy.lab.streams import Domain, Part


def drawn(domain, requests=200, seed=1, **more):
    stream = domain.stream(requests, np.random.default_rng(seed), **more)
    return [domain.texts[question] for question in stream.questions], stream.classes.tolist()


def test_the_same_seed_draws_the_same_stream():
    assert drawn(made_up()) == drawn(made_up())
    assert drawn(made_up()) != drawn(made_up(), seed=2)


def test_a_question_belongs_to_the_class_that_it_was_drawn_from():
    domain = made_up()
    texts, kinds = drawn(domain)
    names: dict[int, set[str]] = {}
    for text, kind in zip(texts, kinds, strict=True):
        names.setdefault(kind, set()).update(name for name, of_it in domain.classes.items() if text in of_it)
    assert all(len(own) == 1 for own in names.values())
    assert len(set.union(*names.values())) == len(names)


def test_without_repeats_nothing_is_asked_twice_while_questions_last():
    texts, _ = drawn(made_up(), 80, repeats=0.0)
    assert len(set(texts)) == 80


def test_when_every_question_was_asked_earlier_ones_come_again():
    texts, _ = drawn(made_up(), 300, repeats=0.0)
    assert len(set(texts[:80])) == 80
    assert set(texts[80:]) <= set(texts[:80])


def test_about_a_tenth_repeats_an_earlier_request():
    domain = Domain({str(kind): [f"{kind} {number}" for number in range(400)] for kind in range(10)})
    texts, _ = drawn(domain, 2_000)
    assert 0.07 < 1 - len(set(texts)) / 2_000 < 0.13


def test_filler_belongs_to_nothing_and_is_asked_once():
    domain = made_up(filler_share=0.2)
    texts, kinds = drawn(domain, 60, repeats=0.0)
    nobodys = [text for text, kind in zip(texts, kinds, strict=True) if kind < 0]
    assert nobodys
    assert set(nobodys) <= set(domain.filler)
    assert len(set(nobodys)) == len(nobodys)
    assert len({kind for kind in kinds if kind < 0}) == len(nobodys)


def test_some_classes_come_more_often_than_others():
    domain = Domain({str(kind): [f"{kind} {number}" for number in range(999)] for kind in range(20)})
    counts = Counter(drawn(domain, 2_000)[1]).most_common()
    assert counts[0][1] > 3 * counts[-1][1]


def test_of_very_many_classes_some_are_drawn():
    domain = Domain({str(kind): [f"{kind} a", f"{kind} b"] for kind in range(1_000)})
    assert max(drawn(domain, 100)[1]) < 50


def test_a_stream_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no question"):
        drawn(Domain({}))


def test_the_halves_share_no_class_and_miss_none():
    domain = made_up(filler_share=0.2)
    tune, report = domain.part(Part.TUNE), domain.part(Part.REPORT)
    assert tune.classes
    assert report.classes
    assert tune.classes.keys() | report.classes.keys() == domain.classes.keys()
    assert not tune.classes.keys() & report.classes.keys()
    assert {*tune.filler, *report.filler} == {*domain.filler}
    assert domain.part(Part.ALL).classes == domain.classes


def test_samples_share_no_class_and_miss_none():
    domain = made_up(filler_share=0.2)
    samples = domain.samples(3, np.random.default_rng(1))
    assert sorted(name for sample in samples for name in sample.classes) == sorted(domain.classes)
    assert sorted(text for sample in samples for text in sample.filler) == sorted(domain.filler)
