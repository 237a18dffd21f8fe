"""Close decisions are looked at once more, by a verifier that may take its time but not the caller's."""

import asyncio

import numpy as np
import pytest
from support.candidates import always
from support.judging import Coin, ScriptedJudge, same

from cacheproxy.core.features import verifier_number
from cacheproxy.core.likelihood import KNOTS, PRODUCTS, WEIGHTS, Likelihood
from cacheproxy.errors import Overloaded, PortUnavailable, TurnTooLong

ASKED = "Please tell me what a reverse proxy does"
SIMILAR = f"{ASKED} please"
NEVER_AUDIT = Coin(0.99)
CLOSE_YES, CLOSE_NO, SURE = 4.5, 3.0, 9.0
"""Log odds beside the bootstrap rule's 3.7."""


class ScriptedVerifier:
    """Says what it is told to, or raises it."""

    name = "scripted"

    def __init__(self, says):
        self.says = says
        self.asked = []

    async def compare(self, asked, stored):
        self.asked.append((asked, stored))
        if isinstance(self.says, BaseException):
            raise self.says
        if self.says is None:
            await asyncio.Event().wait()
        return self.says


def believing(logit):
    """To this prior everything has the same chance, which a verifier's word moves by three either way."""
    ramps = sum(len(knots) - 1 for knots in KNOTS.values())
    verified = len(KNOTS["verified"]) - 1
    weights = np.zeros(WEIGHTS)
    weights[0] = logit
    weights[ramps - verified] = -3.0  # the ramp of "a verifier was asked", before those of what it said
    weights[1 + ramps - verified : 1 + ramps] = 6.0 / verified
    assert 1 + ramps + len(PRODUCTS) == WEIGHTS
    return Likelihood(weights)


async def served(open_world, verifier, logit, **settings):
    settings = {"policy": "certified", "judge": ScriptedJudge(same), **settings}
    world = await open_world(verifier=verifier, prior=believing(logit), dice=NEVER_AUDIT, **settings)
    await world.ask(ASKED)
    return world, await world.ask(SIMILAR)


@pytest.mark.parametrize(
    ("logit", "says", "cache"),
    [
        pytest.param(CLOSE_YES, 1.0, ("Hit", "semantic"), id="likely-and-confirmed"),
        pytest.param(CLOSE_YES, 0.0, ("Miss", "uncertified"), id="likely-and-not-confirmed"),
        pytest.param(CLOSE_NO, 1.0, ("Hit", "semantic"), id="unlikely-and-confirmed"),
        pytest.param(CLOSE_NO, 0.0, ("Miss", "uncertified"), id="unlikely-and-not-confirmed"),
    ],
)
async def test_a_close_decision_is_the_verifiers_to_tip(open_world, logit, says, cache):
    verifier = ScriptedVerifier(says)
    _, reply = await served(open_world, verifier, logit)
    assert verifier.asked == [(SIMILAR, ASKED)]
    assert reply.cache == cache


@pytest.mark.parametrize(("logit", "cache"), [(SURE, ("Hit", "semantic")), (-SURE, ("Miss", "uncertified"))])
async def test_a_clear_decision_costs_no_comparison(open_world, logit, cache):
    verifier = ScriptedVerifier(0.5)
    _, reply = await served(open_world, verifier, logit)
    assert verifier.asked == []
    assert reply.cache == cache


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(PortUnavailable("gone"), id="gone"),
        pytest.param(Overloaded("busy"), id="overloaded"),
        pytest.param(TurnTooLong("long"), id="too-long"),
        pytest.param(RuntimeError("bug"), id="bug"),
        pytest.param(None, id="too-slow"),
    ],
)
async def test_a_verifier_that_does_not_answer_is_a_miss(open_world, failure):
    verifier = ScriptedVerifier(failure)
    deadlines = {"verifier_ms": 20} if failure is None else {}
    _, reply = await served(open_world, verifier, CLOSE_YES, deadlines=deadlines)
    assert verifier.asked
    assert reply.cache == ("Miss", "unverified")


async def test_a_guards_objection_is_not_put_to_it(open_world):
    verifier = ScriptedVerifier(1.0)
    world, _ = await served(open_world, verifier, CLOSE_YES)
    verifier.asked.clear()
    reply = await world.ask(f"Please tell me what 3 reverse proxies do, {ASKED}")
    assert verifier.asked == []
    assert reply.cache[1].startswith("guard-")


async def test_policies_that_keep_no_budget_ask_nobody(open_world):
    verifier = ScriptedVerifier(0.0)
    world = await open_world(verifier=verifier, policy="threshold", threshold=0.8)
    await world.ask(ASKED)
    assert (await world.ask(SIMILAR)).cache == ("Hit", "semantic")
    assert verifier.asked == []


async def test_its_word_is_part_of_the_label_and_of_the_explanation(open_world):
    verifier = ScriptedVerifier(0.25)
    world, reply = await served(open_world, verifier, CLOSE_NO)
    (label,) = world.pool.labels
    assert (label.features.verifier, label.features.verified) == (verifier_number("scripted"), 0.25)
    told = world.flow.explanations.latest(1)[0].told()
    assert told["candidate"]["features"]["verified"] == 0.25
    assert reply.cache == ("Miss", "uncertified")


async def test_what_another_verifier_said_counts_no_more_after_a_restart(open_world):
    world, _ = await served(open_world, ScriptedVerifier(0.25), CLOSE_NO)
    await world.upkeep.flush()
    other = ScriptedVerifier(0.25)
    other.name = "another"
    for verifier, kept in ((ScriptedVerifier(0.25), 0.25), (other, 0.0), (None, 0.0)):
        again = await open_world(verifier=verifier, policy="certified", prior=always(0.0))
        assert [label.features.verified for label in again.pool.labels] == [kept]


async def test_its_breaker_is_watched_where_there_is_one(open_world):
    with_one = await open_world(verifier=ScriptedVerifier(1.0), policy="certified")
    without = await open_world(policy="certified")
    assert [shelter.port for shelter in with_one.flow.shelters][-1] == "verifier"
    assert "verifier" not in [shelter.port for shelter in without.flow.shelters]
