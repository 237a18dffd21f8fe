"""The decision without the network: a stream of labelled questions through a policy, with the very code that serves.

A question's class says which answers are right for it: the upstream is asked by looking the class up. What the flow
does with verdicts is done here as well: aliases, insert-on-different, audits by a coin, fits when they are due.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

import numpy as np

from cacheproxy.core.features import Key, Verified
from cacheproxy.core.guards import first_objection
from cacheproxy.core.labels import Label, Source
from cacheproxy.core.policy import SURPRISING, Found, Serve, audit_rate, is_close
from cacheproxy.core.pool import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from cacheproxy.core.guards import Objecting
    from cacheproxy.core.policy import Assessed, Decision, Policy
    from cacheproxy.core.pool import Pool
    from cacheproxy.core.profile import Profile

    Vectors = NDArray[np.float32]

T = TypeVar("T")

EXACT: Final = 1
SEMANTIC: Final = 2


class Chance(Protocol):
    """Where draws come from, uniform in 0..1."""

    def random(self) -> float:
        """The next one."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Questions that streams are made of. ``vectors`` has shape (questions, dimension), rows of unit length."""

    profiles: Sequence[Profile]
    vectors: Vectors
    compare: Callable[[int, int], Verified] | None = None
    """A verifier: what it says of two questions, of no root yet."""
    objection: Objecting = field(default_factory=lambda: cast("Objecting", cache(first_objection)))
    """What guards say, of each pair once: streams of one corpus come to the same pairs again and again."""


@dataclass(slots=True)
class Run:
    """What became of each request of a stream. Arrays have shape (requests,)."""

    outcome: NDArray[np.int8]
    """0 forwarded, 1 exact hit, 2 semantic hit."""
    wrong: NDArray[np.bool_]
    stage: list[Stage | None] = field(default_factory=list)
    similarity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Of the candidate, 0 where there was none. By a policy that names none it is what was served, else the nearest."""
    chance: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """That it is right, by the policy; 0 where it computes none."""
    candidate_right: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    audits: int = 0
    judged: int = 0
    fits: int = 0
    tripped_at: list[int] = field(default_factory=list)
    """The requests at which the breaker tripped."""
    first_certified: int | None = None
    """The request with the first certified hit."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a stream is run."""

    neighbors: int = 8
    aliases: int = 32
    """Further keys of one answer."""
    judged: int = 3
    """Candidates that a fresh answer is compared with."""
    audit_rate: float = 0.05
    judge_error: float = 0.0
    """Share of verdicts that are the wrong way round."""
    shadow: int = 0
    """So many requests at first are only judged: nothing similar is served."""
    verify: bool = False
    """Whether the corpus' verifier looks at close decisions."""


def run(
    corpus: Corpus,
    questions: Sequence[int],
    classes: Sequence[int],
    policy: Policy,
    *,
    pool: Pool,
    chance: Chance,
    rules: Rules = Rules(),
    truth: Callable[[int, int], int] | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Run:
    """Send a stream through a policy and the pool that it learns in.

    ``truth(request, class)`` may let what a class's answer is change over time.
    """
    stream = Stream(corpus, policy, pool, chance, rules, len(questions))
    for request, (question, kind) in enumerate(zip(questions, classes, strict=True)):
        stream.ask(request, int(question), int(kind) if truth is None else truth(request, int(kind)))
        on_progress(request)
    return stream.result


def decided(policy: Policy, found: Found, draw: float, compare: Callable[[Key], Verified] | None) -> Decision:
    """What the policy says, where that is close once more with what a verifier says of the candidate's nearest key."""
    decision = policy.decide(found, draw=draw)
    if compare is None or decision.assessed is None or not policy.keeps_budgets or not is_close(decision):
        return decision
    group = decision.assessed.group
    return policy.decide(replace(found, verified=compare(group.keys[0])._replace(root=group.root)), draw=draw)


class Stream:
    """One run: the index, the pool, and what is known of each answer. ``run`` asks it one request after the other."""

    def __init__(self, corpus: Corpus, policy: Policy, pool: Pool, chance: Chance, rules: Rules, requests: int) -> None:
        self._corpus = corpus
        self._policy = policy
        self.pool = pool
        self._chance = chance
        self._rules = rules
        self._vectors = np.zeros((requests + 1, corpus.vectors.shape[1]), np.float32)
        self._keys: list[tuple[int, str]] = []
        """Question and root of each indexed key."""
        self._answers: dict[str, int] = {}
        self._size: dict[str, int] = {}
        self._began: dict[str, str] = {}
        """The key that each answer came with."""
        self._asked: dict[int, int] = {}
        """Questions with an exact entry, and what its answer is."""
        self.result = Run(
            np.zeros(requests, np.int8),
            np.zeros(requests, np.bool_),
            [None] * requests,
            np.zeros(requests),
            np.zeros(requests),
            np.zeros(requests, np.bool_),
        )

    def live(self, policy: Policy, *, budget: float, chance: Chance) -> Stream:
        """A second run that begins out of shadow with all that this one knows, and leaves it as it is."""
        other = _copied(self)
        other.pool = _copied(self.pool)
        other.pool.observed = {root: list(observed) for root, observed in self.pool.observed.items()}
        other.pool.budget = budget
        other.result = copy.deepcopy(self.result)
        other._policy, other._chance, other._rules = policy, chance, replace(self._rules, shadow=0)  # noqa: SLF001
        return other

    def ask(self, request: int, question: int, kind: int) -> None:
        """One request: its number, what is asked, and the class whose answer is right."""
        if question in self._asked:
            self.result.outcome[request] = EXACT
            self.result.wrong[request] = self._asked[question] != kind
            return
        keys = self._near(question)
        pool = self.pool
        draw, coin = self._chance.random(), self._chance.random()
        roots = {key.root for key in keys}
        found = Found(
            self._corpus.profiles[question],
            keys,
            records={root: pool.records[root] for root in roots if root in pool.records},
            observed={root: pool.observed[root] for root in roots if root in pool.observed},
            rule=pool.rule,
            tripped=pool.tripped,
            objection=self._corpus.objection,
        )
        compare = self._compare(question) if self._rules.verify else None
        decision = decided(self._policy, found, draw, compare)
        assessed = decision.assessed
        if keys:
            candidate = decision.key if isinstance(decision, Serve) else keys[0]
            root, similarity = candidate.root, candidate.similarity
            if assessed is not None:
                pool.saw(assessed.group.features)
                root, similarity = assessed.group.root, assessed.group.similarity
                self.result.chance[request] = assessed.chance
            self.result.similarity[request] = similarity
            self.result.candidate_right[request] = self._answers[root] == kind
        if isinstance(decision, Serve) and request >= self._rules.shadow:
            self._serve(request, question, kind, decision, coin)
        else:
            self._forward(request, question, kind, assessed)
        if self._policy.keeps_budgets and pool.due:
            pool.adopt(pool.fit())
            self.result.fits += 1

    def _compare(self, question: int) -> Callable[[Key], Verified] | None:
        compare = self._corpus.compare
        return None if compare is None else lambda key: compare(question, self._keys[int(key.entry_id)][0])

    def _near(self, question: int) -> list[Key]:
        count = len(self._keys)
        if not count:
            return []
        scores = self._vectors[:count] @ self._corpus.vectors[question]
        wanted = self._rules.neighbors
        nearest = np.argpartition(-scores, wanted - 1)[:wanted] if count > wanted else np.arange(count)
        return [
            Key(
                str(place),
                self._keys[place][1],
                min(max(float(scores[place]), 0.0), 1.0),
                self._corpus.profiles[self._keys[place][0]],
            )
            for place in nearest[np.argsort(-scores[nearest], kind="stable")].tolist()
        ]

    def _serve(self, request: int, question: int, kind: int, served: Serve, coin: float) -> None:
        pool, result, root = self.pool, self.result, served.key.root
        result.outcome[request] = SEMANTIC
        result.wrong[request] = self._answers[root] != kind
        result.stage[request] = served.stage
        if served.stage is Stage.CERTIFIED and result.first_certified is None:
            result.first_certified = request
        rate = audit_rate(served.stage, pool.hits, self._rules.audit_rate)
        pool.hits += 1
        if served.assessed is None or coin >= rate:
            return
        result.audits += 1
        right = self._checked(root, kind, served.assessed)
        trips = pool.monitor.trips
        self._label(request, served.assessed, root, right=right, source=Source.AUDIT, inclusion=rate)
        if pool.monitor.trips > trips:
            result.tripped_at.append(request)
        self._asked[question] = kind
        self._place(question, root if right and self._joins(served.key, kind) else None, kind)

    def _forward(self, request: int, question: int, kind: int, assessed: Assessed | None) -> None:
        self._asked[question] = kind
        if assessed is None or not self._policy.learns:
            self._place(question, None, kind)
            return
        for place, group in enumerate((assessed.group, *assessed.others)[: self._rules.judged]):
            right = self._checked(group.root, kind, assessed) if place == 0 else self._verdict(group.root, kind)
            if place == 0:
                self._label(request, assessed, group.root, right=right, source=Source.MISS, inclusion=1.0)
            else:
                self.pool.judged(group.root, right=right, similarity=group.similarity)
            if right:
                self._place(question, group.root if self._joins(group.keys[0], kind) else None, kind)
                return
        self._place(question, None, kind)

    def _checked(self, root: str, kind: int, assessed: Assessed) -> bool:
        """A verdict on the candidate; a surprising one is asked for again, with another answer."""
        if self._verdict(root, kind):
            return True
        if assessed.chance < SURPRISING:
            return False
        self.result.audits += 1
        return self._verdict(root, kind)

    def _joins(self, key: Key, kind: int) -> bool:
        """Whether an answer that says the same as this key's says the same as its root's too."""
        return key.entry_id == self._began[key.root] or self._verdict(key.root, kind)

    def _verdict(self, root: str, kind: int) -> bool:
        self.result.judged += 1
        flipped = bool(self._rules.judge_error) and self._chance.random() < self._rules.judge_error
        return (self._answers[root] == kind) != flipped

    def _label(
        self, request: int, assessed: Assessed, root: str, *, right: bool, source: Source, inclusion: float
    ) -> None:
        self.pool.add(Label(float(request), root, assessed.group.features, right, source, inclusion))

    def _place(self, question: int, root: str | None, kind: int) -> None:
        """Index a question: as an alias of an answer while that has room, else as the key of its own."""
        if root is None:
            root = str(len(self._answers))
            self._answers[root] = kind
            self._began[root] = str(len(self._keys))
        elif self._size[root] > self._rules.aliases:
            return
        self._size[root] = self._size.get(root, 0) + 1
        self._vectors[len(self._keys)] = self._corpus.vectors[question]
        self._keys.append((question, root))


def _copied(whole: T) -> T:
    """A copy whose collections are its own, down to what they hold."""
    other = copy.copy(whole)
    for name, value in vars(whole).items():
        if isinstance(value, dict | list | deque | np.ndarray):
            setattr(other, name, copy.copy(value))
    return other
