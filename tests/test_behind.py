"""What stands behind the listeners; that it is replaced when a store comes late: test_connecting.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cacheproxy import behind
from cacheproxy.core.likelihood import WEIGHTS, Likelihood
from cacheproxy.core.prior import dump_prior
from cacheproxy.embed.hashed import HashedEmbedder
from cacheproxy.errors import ConfigError
from cacheproxy.settings import Settings


async def test_a_prior_of_ones_own_is_used_and_one_for_another_model_is_refused(tmp_path):
    known = HashedEmbedder()
    chosen = Settings(data_dir=tmp_path)
    assert behind._prior(chosen, known) is None  # what ships is for another model
    mine = Likelihood(np.arange(WEIGHTS, dtype=float))
    chosen.prior.write_text(dump_prior(mine, embedding_model=known.model, trained_on=[]), encoding="utf-8")
    assert behind._prior(chosen, known).weights.tolist() == mine.weights.tolist()
    chosen.prior.write_text(dump_prior(mine, embedding_model="another", trained_on=[]), encoding="utf-8")
    with pytest.raises(ConfigError, match="another"):
        behind._prior(chosen, known)


@pytest.mark.parametrize(
    ("store", "told"),
    [("sqlite:////srv/cache.db", "sqlite /srv/cache.db"), ("redis://user:hush@there:1", "redis redis://there:1")],
)
def test_a_store_is_named_without_its_password(store, told):
    assert behind.store_named(Settings(data_dir=Path("/srv"), store=store)) == told
