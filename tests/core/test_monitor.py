"""The breaker and the bound, over audits whose true error is known."""

import numpy as np
import pytest

from cacheproxy.core import certificate
from cacheproxy.core.monitor import ALARM, Monitor


def audits_until_alarm(error, budget, seed, limit):
    """How many audits pass before the breaker opens; the limit where it does not."""
    monitor = Monitor()
    for number, draw in enumerate(np.random.default_rng(seed).random(limit), 1):
        monitor = monitor.audited(right=bool(draw >= error), budget=budget)
        if monitor.alarmed:
            return number
    return limit


def test_audits_are_counted():
    monitor = Monitor().audited(right=True, budget=0.01).audited(right=False, budget=0.01)
    assert (monitor.audits, monitor.wrong) == (2, 1)


def test_the_bound_is_the_one_that_is_valid_at_any_time():
    assert Monitor().bound() == 1.0
    assert Monitor(audits=500, wrong=2).bound() == certificate.proven(2, 500)


def test_right_audits_alone_never_alarm():
    monitor = Monitor()
    for _ in range(1000):
        monitor = monitor.audited(right=True, budget=0.01)
    assert (monitor.evidence, monitor.alarmed) == (1.0, False)


def test_three_wrong_audits_in_a_row_break_a_promise_of_1_percent():
    monitor = Monitor()
    alarms = []
    for _ in range(3):
        monitor = monitor.audited(right=False, budget=0.01)
        alarms.append(monitor.alarmed)
    assert alarms == [False, False, True]


@pytest.mark.parametrize(("budget", "audits"), [(0.01, 2500), (0.02, 2000), (0.05, 800)])
def test_a_promise_just_kept_runs_for_many_audits(budget, audits):
    runs = [audits_until_alarm(budget, budget, seed, limit=4000) for seed in range(40)]
    assert np.mean(runs) > audits


@pytest.mark.parametrize("budget", [0.01, 0.05])
def test_under_a_promise_just_kept_one_bet_in_a_hundred_wins(budget):
    rng = np.random.default_rng(2)
    bets = won = 0
    monitor = Monitor()
    for draw in rng.random(60_000):
        before = monitor
        monitor = monitor.audited(right=bool(draw >= budget), budget=budget)
        if before.evidence == 1.0 < monitor.evidence:
            bets += 1
        if monitor.alarmed:
            won += 1
            monitor = monitor.restarted()
    # A bet begins with a wrong audit, and is then worth RATIO: it wins a hundredfold RATIO times as often.
    assert bets > 100
    assert won / bets <= 5 / ALARM + 3 * (0.05 / bets) ** 0.5


@pytest.mark.parametrize(("budget", "audits"), [(0.01, 60), (0.02, 30), (0.05, 12)])
def test_a_promise_broken_ten_times_over_is_noticed_in_few_audits(budget, audits):
    assert np.median([audits_until_alarm(10 * budget, budget, seed, limit=1000) for seed in range(200)]) <= audits


@pytest.mark.parametrize("budget", [0.3, 0.5, 0.6, 0.9])
def test_right_audits_were_held_against_a_budget_over_a_half(budget):
    assert Monitor(evidence=10.0).audited(right=True, budget=budget).evidence <= 10.0
    assert Monitor(evidence=10.0).audited(right=False, budget=budget).evidence >= 10.0


def test_after_a_trip_all_but_the_trips_is_counted_anew():
    assert Monitor(audits=9, wrong=4, evidence=120.0, trips=1).restarted() == Monitor(trips=2)
