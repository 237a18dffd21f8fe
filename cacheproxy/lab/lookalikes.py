"""Pairs of questions that look alike and must never share an answer: what users of caches complained about."""

from __future__ import annotations

from typing import Final

from cacheproxy.lab.labelled import Pair

LOOKALIKES: Final = tuple(
    Pair(a, b, same=False)
    for a, b in (
        ("How do I enable 2FA?", "How do I disable 2FA?"),  # vllm semantic-router 2691
        ("What is 2+2?", "What is 2+3?"),  # vllm semantic-router 1616
        ("How do I turn dark mode on?", "How do I turn dark mode off?"),
        ("How do I enable dark mode?", "How do I disable dark mode?"),
        ("How old is Barack Obama?", "How old is Joe Biden?"),
        ("How old is he?", "How old is she?"),
        ("How do I say thank you in French?", "How do I say thank you in German?"),
        ("Translate this to Spanish: good morning", "Translate this to Italian: good morning"),
        ("How long is 5 miles?", "How long is 5 km?"),
        ("What is 70 kg in stones?", "What is 70 pounds in stones?"),
        ("What is 100 USD in EUR?", "What is 100 GBP in EUR?"),
        ("Convert USD to EUR", "Convert EUR to USD"),
        ("How much is $20 in yen?", "How much is €20 in yen?"),
        ("What happened on March 3, 2020?", "What happened on March 5, 2020?"),
        ("Which shops are open on Monday?", "Which shops are open on Sunday?"),
        ("Who won the cup in 2018?", "Who won the cup in 2022?"),
        ("What does error 0x80070005 mean?", "What does error 0x80070057 mean?"),
        ("I like dogs", "I do not like dogs"),  # GPTCache 694
        ("Is it safe to take aspirin?", "Is it unsafe to take aspirin?"),
        ("How do I increase the limit of my card?", "How do I decrease the limit of my card?"),
        ("Did Anna call Bob?", "Did Bob call Anna?"),
        ("What does `list.sort()` return?", "What does `sorted(list)` return?"),
    )
)
