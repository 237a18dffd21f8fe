"""What is known of a candidate answer before it is served: the numbers that its probability is computed from.

Keys near a prompt are grouped by the answer that they lead to (their *root*). Each group is described by similarities,
by how the neighbours vote, by words, by the lexical guards and by its own record. Pure: no clock, no chance, no I/O.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from cacheproxy.core.guard_tables import STOP_WORDS
from cacheproxy.core.guards import first_objection
from cacheproxy.model import Reason

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

    from cacheproxy.core.guards import Objecting
    from cacheproxy.core.profile import Profile

VOTE_SHARPNESS: Final = 12.0
"""A key's vote is exp(this times its similarity): one that is .1 nearer counts 3.3 times as much."""
GROUPS_DESCRIBED: Final = 3
"""Answers that are considered: beyond the third hardly any is right."""
KEYS_GUARDED: Final = 3
"""Of a group's keys the nearest ones that guards look at. A question may differ from one paraphrase in a number word or
a name that the answer does not turn on; it must agree with one of these."""
AMOUNTS: Final = frozenset(
    {Reason.GUARD_NUMBERS, Reason.GUARD_UNITS, Reason.GUARD_DATES, Reason.GUARD_IDS, Reason.GUARD_CODE}
)
"""Guards whose veto is a feature of its own: in some places two amounts have one answer, two senses hardly ever."""
LEAST_SIMILARITY: Final = 0.5
"""Below it nothing is served, however sure a rule is: rules are learnt where questions lie close together, and among
others they would be sure of anything."""
_MOST_RECORDED: Final = 20
_NOBODY_ELSE: Final = 0.3
"""Stands for the next best group's similarity where there is none."""


@dataclass(frozen=True, slots=True)
class Key:
    """An indexed prompt near the one that was asked. ``root`` names the group of entries with one answer."""

    entry_id: str
    root: str
    similarity: float
    profile: Profile


class Record(NamedTuple):
    """What verdicts said of a group so far."""

    right: int = 0
    wrong: int = 0


NO_RECORD: Final = Record()


class Veto(StrEnum):
    """What a guard objects to, as far as features tell."""

    AMOUNT = "amount"
    SENSE = "sense"


class Features(NamedTuple):
    """One candidate group. Similarities are cosines in 0..1."""

    similarity: float
    """Of its nearest key."""
    similarity_3: float
    """Mean of its three nearest."""
    share: float
    """Of all votes, 0..1."""
    margin: float
    """To the nearest key of any other group."""
    keys: float
    """How many of the neighbours are its own."""
    right: float
    """log(1 + right verdicts), at most 20 of them."""
    wrong: float
    """log(1 + wrong verdicts)."""
    groups: float
    """How many groups there are among the neighbours."""
    uncovered: float
    """Share of the prompt's content words that none of its keys has."""
    uncovered_words: float
    """The same, counted."""
    farthest: float
    """Similarity of the farthest neighbour: how crowded the place is."""
    overlap: float
    """Jaccard index of content words, with the nearest key."""
    length_ratio: float
    """|log| of the ratio of word counts, with the nearest key."""
    length: float
    """log(1 + words of the shorter one)."""
    difference: float
    """Content words that only one of the two has."""
    objected: float
    """Share of the guarded keys to which a guard objects."""
    vetoed_amount: float
    """1 when a guard objects to each of them, and to the nearest for a number, unit, date, id or piece of code."""
    vetoed_sense: float
    """1 when a guard objects to each of them, and to the nearest for anything else."""
    verifier: float = 0.0
    """Which verifier compared the prompt with the nearest key (``verifier_number``); 0 where none did."""
    verified: float = 0.0
    """What it said, 0..1; 0 where none did."""

    @property
    def veto(self) -> Veto | None:
        """What a guard has against each of the guarded keys."""
        if self.vetoed_amount:
            return Veto.AMOUNT
        return Veto.SENSE if self.vetoed_sense else None


FEATURE_NAMES: Final = Features._fields


def servable(features: Features, *, guards_final: bool) -> bool:
    """Whether thresholds decide on it: none serves what lies too far, or what a guard with the last word vetoes."""
    return features.similarity >= LEAST_SIMILARITY and not (guards_final and features.veto is not None)


@dataclass(frozen=True, slots=True)
class Group:
    """A candidate answer: the keys that lead to it, nearest first, and what is known of it."""

    root: str
    keys: tuple[Key, ...]
    features: Features
    objection: Reason | None
    """The first reason for which a guard vetoes it: the one against its nearest key."""

    @property
    def similarity(self) -> float:
        """Of its nearest key."""
        return self.features.similarity


def describe(
    asked: Profile,
    keys: Sequence[Key],
    records: Mapping[str, Record],
    *,
    disabled_guards: Container[Reason] = (),
    objection: Objecting = first_objection,
) -> list[Group]:
    """The groups with the most votes, at most three. ``keys`` come most similar first; those of one scope only.

    ``objection`` is what guards say of two texts.
    """
    if not keys:
        return []
    weights = [math.exp(VOTE_SHARPNESS * (key.similarity - keys[0].similarity)) for key in keys]
    total = sum(weights)
    members: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        members.setdefault(key.root, []).append(place)
    votes = {root: sum(weights[place] for place in places) for root, places in members.items()}
    ranked = sorted(members, key=lambda root: -votes[root])[:GROUPS_DESCRIBED]
    nearest = sorted(((keys[places[0]].similarity, root) for root, places in members.items()), reverse=True)
    words = content_words(asked)
    groups = []
    for root in ranked:
        own = [keys[place] for place in members[root]]
        best = own[0]
        other = next((similarity for similarity, name in nearest if name != root), _NOBODY_ELSE)
        objections = [objection(asked, key.profile, disabled_guards) for key in own[:KEYS_GUARDED]]
        objected = sum(objection is not None for objection in objections) / len(objections)
        theirs = content_words(best.profile)
        covered = frozenset().union(*(content_words(key.profile) for key in own))
        uncovered = len(words - covered)
        lengths = (max(len(asked.words), 1), max(len(best.profile.words), 1))
        record = records.get(root, NO_RECORD)
        features = Features(
            similarity=best.similarity,
            similarity_3=sum(key.similarity for key in own[:3]) / len(own[:3]),
            share=votes[root] / total,
            margin=best.similarity - other,
            keys=len(own),
            right=math.log1p(min(record.right, _MOST_RECORDED)),
            wrong=math.log1p(min(record.wrong, _MOST_RECORDED)),
            groups=len(members),
            uncovered=uncovered / (len(words) or 1),
            uncovered_words=uncovered,
            farthest=keys[-1].similarity,
            overlap=len(words & theirs) / (len(words | theirs) or 1),
            length_ratio=abs(math.log(lengths[0] / lengths[1])),
            length=math.log1p(min(lengths)),
            difference=len(words ^ theirs),
            objected=objected,
            vetoed_amount=float(objected == 1.0 and objections[0] in AMOUNTS),
            vetoed_sense=float(objected == 1.0 and objections[0] not in AMOUNTS),
        )
        groups.append(Group(root, tuple(own), features, objections[0] if objected == 1.0 else None))
    return groups


class Verified(NamedTuple):
    """What a verifier said of one candidate."""

    root: str
    verifier: float
    score: float


def verifier_number(name: str) -> float:
    """A verifier's name as a number of at least 1, so that a label tells whose score it holds."""
    return 1.0 + zlib.crc32(name.encode()) % 1_000_000


def with_verified(groups: Sequence[Group], verified: Verified) -> list[Group]:
    """The groups, the one that was compared with what was said of it."""
    said = {"verifier": verified.verifier, "verified": verified.score}
    return [
        replace(group, features=group.features._replace(**said)) if group.root == verified.root else group
        for group in groups
    ]


def content_words(text: Profile) -> frozenset[str]:
    """The words that say something."""
    return text.vocabulary - STOP_WORDS


def matrix(features: Sequence[Features]) -> NDArray[np.float64]:
    """Shape (rows, features)."""
    return np.array(features, dtype=np.float64).reshape(len(features), len(FEATURE_NAMES))
