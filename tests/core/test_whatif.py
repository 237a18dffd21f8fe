"""Another threshold: its hit rate from recent candidates, its error from labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.candidates import features

from cacheproxy.core.certificate import upper_bound
from cacheproxy.core.whatif import Scored, curve, histogram, outcome, vetoed

scores = st.lists(st.floats(0, 1), max_size=50)


def scored(labels, traffic=(), counts=None):
    numbers = [score for score, _ in labels]
    right = [float(right) for _, right in labels]
    weights = [1.0] * len(labels) if counts is None else counts
    return Scored(np.array(numbers), np.array(right), np.array(weights), np.array(traffic, dtype=float))


LABELS = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False)]


def test_a_threshold_serves_what_is_at_or_above_it():
    told = outcome(scored(LABELS, [0.95, 0.7, 0.2, 0.1]), 0.7)
    assert (told.hit_rate, told.labels, told.wrong) == (0.5, 3, 1)
    assert told.wrong_per_hit == pytest.approx(1 / 3)
    assert told.bound == upper_bound(1, 3, 0.05)


def test_labels_that_were_seldom_asked_for_count_for_more():
    told = outcome(scored([(0.9, True), (0.9, False)], counts=[19.0, 1.0]), 0.5)
    assert (told.wrong_per_hit, told.wrong) == (0.05, 1)


def test_without_labels_nothing_is_known_of_the_error():
    told = outcome(scored([], [0.5]), 0.4)
    assert (told.hit_rate, told.labels, told.bound) == (1.0, 0, 1.0)


def test_without_anything_there_is_no_curve():
    assert curve(scored([]), 10) == []


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=50), scores, st.integers(2, 20))
def test_a_curve_runs_from_loose_to_strict(labels, traffic, points):
    told = curve(scored(labels, traffic), points)
    assert len(told) <= points
    thresholds = [each.threshold for each in told]
    assert thresholds == sorted(thresholds)
    assert [each.hit_rate for each in told] == sorted((each.hit_rate for each in told), reverse=True)
    if told and labels:
        assert told[0].labels == len(labels)


def test_candidates_that_are_served_at_no_threshold_make_no_point():
    told = curve(scored([(0.5, True)], [-np.inf, 0.9]), 10)
    assert [each.threshold for each in told] == [0.5, 0.9]
    assert told[0].hit_rate == 0.5


@given(scores)
def test_a_histogram_counts_everything(numbers):
    edges = np.linspace(0.25, 0.75, 6)
    assert sum(histogram(np.array(numbers, dtype=float), edges)) == len(numbers)


def test_a_veto_is_seen_in_the_features():
    assert vetoed([features(vetoed_amount=1.0), features(), features(vetoed_sense=1.0)]).tolist() == [True, False, True]
