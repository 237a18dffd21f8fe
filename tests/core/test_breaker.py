"""The breaker, driven by hand."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from cacheproxy.core.breaker import Breaker, BreakerState


def opened(at=100.0):
    breaker = Breaker(threshold=3, first_cooldown_s=5.0, cooldown_s=5.0)
    for _ in range(3):
        breaker.failed(at)
    return breaker


def test_it_opens_after_several_failures_in_a_row():
    breaker = Breaker(threshold=3, first_cooldown_s=5.0, cooldown_s=5.0)
    for _ in range(2):
        breaker.failed(100.0)
        assert breaker.allows(100.0)
    breaker.failed(100.0)
    assert not breaker.allows(100.0)
    assert breaker.state(100.0) is BreakerState.OPEN


def test_a_success_in_between_starts_the_count_anew():
    breaker = Breaker(threshold=3, first_cooldown_s=5.0, cooldown_s=5.0)
    for _ in range(10):
        breaker.failed(100.0)
        breaker.failed(100.0)
        breaker.succeeded()
    assert breaker.allows(100.0)


def test_after_its_cool_down_one_caller_may_try():
    breaker = opened()
    assert breaker.state(105.0) is BreakerState.HALF_OPEN
    assert [breaker.allows(105.0) for _ in range(3)] == [True, False, False]


def test_a_trial_that_works_closes_it():
    breaker = opened()
    assert breaker.allows(105.0)
    breaker.succeeded()
    assert breaker.state(105.0) is BreakerState.CLOSED
    assert all(breaker.allows(105.0) for _ in range(3))


def test_a_trial_that_fails_opens_it_for_another_cool_down():
    breaker = opened()
    assert breaker.allows(105.0)
    breaker.failed(106.0)
    assert not breaker.allows(110.9)
    assert breaker.allows(111.0)


def test_a_trial_whose_caller_left_does_not_keep_it_open_for_ever():
    breaker = opened()
    assert breaker.allows(105.0)
    assert not breaker.allows(109.9)
    assert breaker.allows(110.0)


def test_cool_downs_are_short_at_first_and_grow_with_each_trial_that_fails():
    """Five slow embeddings on a machine that was busy for a moment cost five seconds of look-ups."""
    breaker, now, pauses = Breaker(threshold=2, first_cooldown_s=0.5, cooldown_s=5.0), 100.0, []
    for _ in range(9):  # whatever was under way fails with the first ones, and is no trial
        breaker.failed(now)
    for _ in range(6):
        started = now
        while not breaker.allows(now):
            now += 0.25
        pauses.append(now - started)
        breaker.failed(now)
    assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(now)
    assert not breaker.allows(now)
    assert breaker.allows(now + 0.5)


class Driven(RuleBasedStateMachine):
    """Whatever happens, an open breaker lets at most one call through per cool-down."""

    def __init__(self):
        super().__init__()
        self.breaker = Breaker(threshold=3, first_cooldown_s=5.0, cooldown_s=5.0)
        self.now = 100.0
        self.failures = 0
        self.last_let_through = None

    @rule(seconds=st.floats(0, 10))
    def time_passes(self, seconds):
        self.now += seconds

    @rule()
    def call_fails(self):
        self.breaker.failed(self.now)
        self.failures += 1
        if self.failures >= 3:
            self.last_let_through = None

    @rule()
    def call_works(self):
        self.breaker.succeeded()
        self.failures = 0
        self.last_let_through = None

    @rule()
    def call_is_asked_for(self):
        if not self.breaker.allows(self.now):
            assert self.failures >= 3
        elif self.failures >= 3:
            assert self.last_let_through is None or self.now - self.last_let_through >= 5.0
            self.last_let_through = self.now

    @invariant()
    def it_is_closed_exactly_while_failures_are_few(self):
        assert (self.breaker.state(self.now) is BreakerState.CLOSED) == (self.failures < 3)


TestDriven = Driven.TestCase
