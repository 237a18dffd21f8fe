"""Names that callers make up stay few."""

from cacheproxy.core.few import Few


def test_the_first_names_stay_themselves_and_further_ones_share_one():
    few = Few(2)
    assert [few(name) for name in ("a", "b", "c", "a", "d", "b")] == ["a", "b", "other", "a", "other", "b"]
