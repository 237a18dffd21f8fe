"""Values are compared, hashed and copied like frozen dataclasses; that nobody changes one, the type checker holds."""

from dataclasses import fields, replace

from cacheproxy.model import Usage
from cacheproxy.values import value


@value(frozen=True, slots=True)
class Place:
    street: str
    number: int = 1


@value(frozen=True)
class Held:
    place: Place


def test_equal_values_are_one_key():
    assert Place("Elm") == Place("Elm", 1)
    assert {Place("Elm"), Place("Elm", 1), Place("Elm", 2)} == {Place("Elm"), Place("Elm", 2)}
    assert hash(Held(Place("Elm"))) == hash(Held(Place("Elm")))


def test_a_value_is_copied_with_changes():
    assert replace(Place("Elm"), number=3) == Place("Elm", 3)
    assert [field.name for field in fields(Usage)][:2] == ["input_tokens", "output_tokens"]


def test_slots_stay_slots():
    assert not hasattr(Place("Elm"), "__dict__")
