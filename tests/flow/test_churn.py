"""Scopes that never come back are noticed, once, and only when there were enough requests to tell."""

import logging

import pytest

from cacheproxy.flow.churn import REMEMBERED, WINDOW, ScopeChurn


def _scope(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_a_prompt_with_a_timestamp_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    churn = ScopeChurn()
    with caplog.at_level(logging.WARNING):
        for number in range(2 * WINDOW):
            churn.missed(_scope(number))
    assert churn.share == 1.0
    assert len(caplog.records) == 1
    assert "key.ignore_patterns" in caplog.text


def test_scopes_that_come_back_are_calm(caplog: pytest.LogCaptureFixture):
    churn = ScopeChurn()
    with caplog.at_level(logging.WARNING):
        for number in range(3 * WINDOW):
            churn.missed(_scope(number % 100))
    assert churn.share == 0.0
    assert not caplog.records


def test_few_requests_are_no_ground_for_a_warning(caplog: pytest.LogCaptureFixture):
    churn = ScopeChurn()
    with caplog.at_level(logging.WARNING):
        for number in range(WINDOW - 1):
            churn.missed(_scope(number))
    assert not caplog.records


def test_a_new_wave_after_a_calm_one_is_warned_of_again(caplog: pytest.LogCaptureFixture):
    churn = ScopeChurn()
    with caplog.at_level(logging.WARNING):
        for number in range(WINDOW):
            churn.missed(_scope(number))
        for _ in range(WINDOW):
            churn.missed(_scope(0))
        for number in range(WINDOW, 2 * WINDOW):
            churn.missed(_scope(number))
    assert len(caplog.records) == 2


def test_memory_is_bounded():
    churn = ScopeChurn()
    for number in range(REMEMBERED + 10):
        churn.missed(_scope(number))
    assert len(churn._seen) == REMEMBERED
