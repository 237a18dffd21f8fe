"""Personal data in a text: what has a form of its own. Pure.

Found are addresses of mail and of machines, telephone, card and account numbers, numbers of persons, and keys. Names
and stories have no form: this lowers the risk and does not replace consent. Numbers with check digits (cards: ISO/IEC
7812, accounts: ISO 13616) must fulfil them, so that prices and order numbers are not taken for them.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Personal(StrEnum):
    """What was found."""

    MAIL = "mail"
    PHONE = "phone"
    CARD = "card"
    ACCOUNT = "account"
    ADDRESS = "address"
    PERSON = "person"
    KEY = "key"


_PATTERNS: Final[Mapping[Personal, re.Pattern[str]]] = {
    Personal.MAIL: re.compile(r"[\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+"),
    Personal.CARD: re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.]?\d)"),
    Personal.ACCOUNT: re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"),
    Personal.PHONE: re.compile(
        r"(?<![\w.])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d(?:[ .-]?\d){6,11}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?!\w)"
    ),
    Personal.ADDRESS: re.compile(
        r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.]?\d)"
    ),
    Personal.PERSON: re.compile(r"(?<!\d)\d{3}-\d{2}-\d{4}(?!\d)"),
    Personal.KEY: re.compile(r"\b(?:sk|pk|rk|ghp|gho|xox[bp]|hf|AKIA)[-_A-Za-z0-9]{16,}|-----BEGIN [A-Z ]*PRIVATE KEY"),
}


def personal(text: str) -> frozenset[Personal]:
    """The kinds of personal data in a text."""
    return frozenset(
        kind for kind, pattern in _PATTERNS.items() if any(map(_CHECKS.get(kind, bool), pattern.findall(text)))
    )


def _luhn(written: str) -> bool:
    digits = [int(one) for one in written if one.isdigit()][::-1]
    return sum(digits[::2]) % 10 == -sum(sum(divmod(2 * one, 10)) for one in digits[1::2]) % 10


def _mod_97(written: str) -> bool:
    packed = written.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in packed[4:] + packed[:4])) % 97 == 1


_CHECKS: Final[Mapping[Personal, Callable[[str], bool]]] = {Personal.CARD: _luhn, Personal.ACCOUNT: _mod_97}
