from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from cacheproxy.backend.engine import GREEDY, Ask, Sampling
from cacheproxy.backend.sampling import PerAskSampling, drawn

SCORES = torch.tensor([2.0, 1.0, 0.5, 0.0, -1.0, -3.0])


def futures(*samplings, position=9, logprobs=None):
    return [
        SimpleNamespace(
            has_new_token=True,
            state=SimpleNamespace(
                request_id=str(place),
                position_offset=position,
                logit_processor_kwargs={"ask": Ask((1,), 1, sampling, logprobs)},
            ),
        )
        for place, sampling in enumerate(samplings)
    ]


def rows_of(*samplings, position=9, captured=False, logprobs=None):
    chosen = PerAskSampling(captured=captured)
    rows = torch.zeros((4, len(samplings) + 3), dtype=torch.int32)
    chosen.prepare_tensor_args(futures(*samplings, position=position, logprobs=logprobs), rows)
    return chosen, rows


def picks(*samplings, captured=False, position=9, scores=SCORES):
    chosen, rows = rows_of(*samplings, captured=captured, position=position)
    return chosen(None, scores.expand(len(samplings), -1).clone(), rows).argmax(dim=-1).tolist()


def shares(count=20_000, **more):
    picked = Counter(picks(*(Sampling(seed=seed, **more) for seed in range(count))))
    return torch.tensor([picked[token] / count for token in range(len(SCORES))])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_are_drawn_as_often_as_they_are_likely(temperature):
    expected = torch.softmax(SCORES / temperature, dim=-1)
    assert torch.allclose(shares(temperature=temperature), expected, atol=0.012)


def test_along_the_positions_of_one_seed_they_are_too():
    chosen = Counter(pick for at in range(20_000) for pick in picks(Sampling(seed=3), position=at))
    found = torch.tensor([chosen[token] / 20_000 for token in range(len(SCORES))])
    assert torch.allclose(found, torch.softmax(SCORES, dim=-1), atol=0.012)


def test_top_k_leaves_the_likeliest():
    expected = torch.softmax(SCORES.masked_fill(torch.arange(6) >= 2, -torch.inf), dim=-1)
    assert torch.allclose(shares(top_k=2), expected, atol=0.012)


def test_top_p_leaves_what_fills_it():
    # 0.57, 0.21, 0.13 ...: two of them reach 0.7.
    expected = torch.softmax(SCORES.masked_fill(torch.arange(6) >= 2, -torch.inf), dim=-1)
    assert torch.allclose(shares(top_p=0.7), expected, atol=0.012)


@pytest.mark.parametrize("narrow", [{"top_k": 1}, {"top_p": 0.0}, {"top_p": 1e-6}])
def test_the_narrowest_cuts_leave_one(narrow):
    assert set(picks(*(Sampling(seed=seed, **narrow) for seed in range(50)))) == {0}


def test_greedy_rows_stay_greedy_beside_hot_ones():
    found = picks(GREEDY, Sampling(temperature=50, seed=1), GREEDY)
    assert found[0] == found[2] == 0


def test_a_greedy_batch_is_left_alone():
    chosen, rows = rows_of(GREEDY, GREEDY)
    scores = SCORES.expand(2, -1)
    assert chosen(None, scores, rows) is scores


def test_recorded_or_not_the_same_is_drawn():
    mixed = [GREEDY, *(Sampling(temperature=1.3, top_p=0.9, top_k=4, seed=seed) for seed in range(100))]
    assert picks(*mixed, captured=True) == picks(*mixed)


def test_what_the_library_warms_up_with_comes_without_an_ask():
    """It failed to warm up, and recorded its graphs while requests waited."""
    state = SimpleNamespace(request_id="warm", position_offset=0, logit_processor_kwargs={})
    rows = torch.ones((4, 1), dtype=torch.int32)
    PerAskSampling(captured=True).prepare_tensor_args([SimpleNamespace(state=state, has_new_token=True)], rows)
    assert torch.equal(drawn(SCORES.expand(1, -1), rows, cut=True), SCORES.expand(1, -1))


def test_rows_without_a_request_are_greedy():
    rows = torch.ones((4, 2), dtype=torch.int32)
    PerAskSampling(captured=True).fill_defaults(rows)
    assert torch.equal(drawn(SCORES.expand(2, -1), rows, cut=True), SCORES.expand(2, -1))


def test_logprobs_are_those_before_temperature():
    chosen, rows = rows_of(Sampling(temperature=9, seed=4), logprobs=2)
    chosen.noted["0"] = []
    picked = chosen(None, SCORES.unsqueeze(0), rows).argmax().item()
    expected = torch.log_softmax(SCORES, dim=-1)
    ((logprob, top),) = chosen.noted["0"]
    assert logprob == pytest.approx(expected[picked].item())
    assert top == tuple((number, pytest.approx(expected[number].item())) for number in (0, 1))


def test_of_someone_who_left_nothing_is_noted():
    chosen, rows = rows_of(GREEDY, logprobs=2)
    chosen(None, SCORES.unsqueeze(0), rows)
    assert chosen.noted == {}


def test_only_asks_travel():
    with pytest.raises(ValueError, match="temperature"):
        PerAskSampling(captured=False).check_kwargs({"temperature": 1.0})
    PerAskSampling(captured=False).check_kwargs({"ask": Ask((1,), 1)})
