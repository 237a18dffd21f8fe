"""The latest texts' tokens are at hand, in memory that does not grow."""

import numpy as np

from cacheproxy.embed.kept_tokens import KeptTokens


def tokens(count):
    return np.ones((count, 4), np.float16)


def test_the_text_used_least_recently_goes_first():
    kept = KeptTokens(3 * tokens(1).nbytes)
    for text in "abc":
        kept.keep(text, tokens(1))
    assert kept.get("a") is not None
    kept.keep("d", tokens(1))
    assert [text for text in "abcd" if kept.get(text) is None] == ["b"]


def test_a_text_that_is_kept_twice_counts_once():
    kept = KeptTokens(2 * tokens(1).nbytes)
    kept.keep("a", tokens(1))
    kept.keep("a", tokens(1))
    kept.keep("b", tokens(1))
    assert kept.get("a") is not None
    assert kept.get("b") is not None


def test_one_that_is_larger_than_all_is_not_kept():
    kept = KeptTokens(tokens(1).nbytes)
    kept.keep("long", tokens(2))
    kept.keep("short", tokens(1))
    assert kept.get("long") is None
    assert kept.get("short") is not None
