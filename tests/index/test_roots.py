"""Roots take memory for aliases alone, and give it back."""

from cacheproxy.index.roots import Roots

SCOPE = b"scope"


def test_an_entry_that_is_its_own_root_is_not_kept():
    roots = Roots()
    roots.put(SCOPE, "a", "a")
    assert roots.of("a") == "a"
    assert not roots._group_of
    assert not roots._groups


def test_nothing_is_left_of_a_root_whose_aliases_went():
    roots = Roots()
    for alias in "bc":
        roots.put(SCOPE, alias, "a")
    roots.drop(SCOPE, "b")
    roots.put(SCOPE, "c", "c")
    assert roots.aliases(SCOPE, "a") == 0
    assert not roots._group_of
    assert not roots._groups


def test_saying_the_same_root_again_counts_once():
    roots = Roots()
    roots.put(SCOPE, "b", "a")
    roots.put(SCOPE, "b", "a")
    assert roots.aliases(SCOPE, "a") == 1


def test_aliases_share_the_name_of_their_root():
    roots = Roots()
    for alias in "bc":
        roots.put(SCOPE, alias, str(1000))  # another object each time
    assert roots.of("b") is roots.of("c")
