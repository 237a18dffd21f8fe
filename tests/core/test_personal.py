from __future__ import annotations

import pytest

from cacheproxy.core.personal import Personal, personal


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to jane.doe+x@mail.example.org please", Personal.MAIL),
        ("My card is 4111 1111 1111 1111.", Personal.CARD),
        ("4111111111111111", Personal.CARD),
        ("Pay to DE89 3704 0044 0532 0130 00 today", Personal.ACCOUNT),
        ("GB82WEST12345698765432", Personal.ACCOUNT),
        ("Call +49 30 1234567", Personal.PHONE),
        ("Call (212) 555-0147 or so", Personal.PHONE),
        ("from 192.168.17.4 it works", Personal.ADDRESS),
        ("SSN 078-05-1120", Personal.PERSON),
        ("the key sk-abcdefghijklmnop1234", Personal.KEY),
        ("-----BEGIN RSA PRIVATE KEY-----", Personal.KEY),
    ],
)
def test_what_has_a_form_is_found(text, kind):
    assert kind in personal(text)


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "It costs 1,234.56 USD, or 4111 1111 1111 1112 of something",
        "Order 2024-000123 of 12.05.2024 at 10:30",
        "Version 1.2.3 and 10.0.0.300",
        "Pi is 3.14159265358979323846",
        "GB82WEST12345698765433 has a wrong check digit",
        "sky and risk-free",
        "@cached and a@b",
    ],
)
def test_other_numbers_and_words_are_left_alone(text):
    assert personal(text) == frozenset()
