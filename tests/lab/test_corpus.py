import asyncio

import numpy as np

from cacheproxy.core.features import Verified, verifier_number
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import TurnTooLong
from cacheproxy.lab.corpus import AT_ONCE, Profiles, comparing, corpus_of, embed_all


def test_each_text_has_its_vector_in_its_row():
    texts = [f"question {number}" for number in range(AT_ONCE + 3)]
    told = []
    vectors = asyncio.run(embed_all(HashedEmbedder(), texts, told.append))
    assert vectors.shape == (len(texts), 256)
    assert told == [AT_ONCE, 3]
    assert np.array_equal(vectors[AT_ONCE + 1], asyncio.run(HashedEmbedder().embed(texts[AT_ONCE + 1])))


def test_a_text_that_the_model_cannot_read_is_near_to_nothing():
    vectors = asyncio.run(embed_all(HashedEmbedder(window=2), ["short", "much too long"]))
    assert np.linalg.norm(vectors[0]) > 0.99
    assert not vectors[1].any()


def test_a_profile_is_made_once():
    profiles = Profiles(["What is a cache?", "Why?"])
    assert len(profiles) == 2
    assert profiles[0] is profiles[0]
    assert profiles[1:][0].text == "Why?"


def test_a_corpus_has_both():
    corpus = corpus_of(["Why?"], np.ones((1, 1), np.float32))
    assert corpus.profiles[0].text == "Why?"
    assert corpus.vectors.shape == (1, 1)


def test_a_verifier_compares_texts_by_their_places():
    class Verifier:
        name = "by hand"

        async def compare(self, asked, stored):
            if asked == "too long":
                raise TurnTooLong("too long")
            return {("b", "a"): 0.75}[asked, stored]

    compare = comparing(Verifier(), ["a", "b", "too long"], asyncio.run)
    assert compare(1, 0) == Verified("", verifier_number("by hand"), 0.75)
    assert compare(2, 0).score == 0.0
