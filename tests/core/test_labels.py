"""Which labels count, and for how much."""

from dataclasses import replace

from support.candidates import label

from cacheproxy.core.labels import FIRST_FIT, LABELS_KEPT, LABELS_LIVE_S, LABELS_PER_ROOT, capped


def test_an_answer_counts_with_its_newest_labels_only():
    labels = [label(at, right=True, root="one") for at in range(LABELS_PER_ROOT + 10)]
    assert capped(labels) == labels[10:]


def test_a_caller_counts_with_four_times_a_fair_share():
    flood = [label(at, right=False, principal="loud") for at in range(1000)]
    others = [label(1000 + at, right=True, principal=f"p{at % 9}") for at in range(200)]
    kept = capped(flood + others)
    assert sum(each.principal == "loud" for each in kept) == 4 * 1200 // 10
    assert sum(each.principal != "loud" for each in kept) == 200


def test_a_single_caller_is_not_capped():
    labels = [label(at, right=True, principal="only") for at in range(1000)]
    assert capped(labels) == labels


# Labels that a cap had left out still used up the other cap.
def test_a_callers_surplus_crowded_out_what_others_said_of_an_answer():
    honest = [label(at, right=True, root="shared", principal=f"p{at % 9}") for at in range(30)]
    flood = [label(30 + at, right=False, root="shared", principal="loud") for at in range(40)]
    surplus = [label(99 + at, right=True, principal="loud") for at in range(FIRST_FIT)]
    kept = capped(honest + flood + surplus)
    assert kept == honest + surplus


def test_labels_age_out_by_number_and_by_time():
    labels = [label(at, right=True) for at in range(LABELS_KEPT + 5)]
    assert capped(labels) == labels[5:]
    old, young = label(0.0, right=True), label(1.0, right=True)
    assert capped([old, young, label(LABELS_LIVE_S, right=True)])[0] == young


def test_a_label_forgets_what_another_verifier_said():
    compared = label(1, right=True)
    compared = replace(compared, features=compared.features._replace(verifier=7.0, verified=0.4))
    assert compared.known_to(7.0) is compared
    for other in (0.0, 8.0):
        known = compared.known_to(other)
        assert (known.features.verifier, known.features.verified) == (0.0, 0.0)
        assert known.features.similarity == compared.features.similarity
