from __future__ import annotations

from support.verdicts import made_up_labels

from cacheproxy.core.pool import Stage
from cacheproxy.lab.calibration import certificate_of


def test_labels_are_counted_by_where_they_came_from():
    found = certificate_of(made_up_labels(50, audits=10), budget=0.01, prior=None)
    assert {source: share.of for source, share in found.sources.items()} == {"audit": 10, "miss": 50}
    assert found.sources["miss"].count > 10
    assert found.labels == found.counted == 60


def test_many_clear_verdicts_prove_a_loose_budget():
    found = certificate_of(made_up_labels(1_500), budget=0.05, prior=None)
    line = next(line for line in found.lines if line.budget == 0.05)
    assert line.certified is not None
    assert line.stage in (Stage.CERTIFIED, Stage.ESTIMATED)
    assert line.wrong.of > 100
    assert line.wrong.rate <= line.bound


def test_a_stricter_budget_never_serves_more():
    found = certificate_of(made_up_labels(1_500), budget=0.01, prior=None)
    served = [line.wrong.of for line in sorted(found.lines, key=lambda line: line.budget)]
    assert served == sorted(served)


def test_few_verdicts_prove_nothing():
    found = certificate_of(made_up_labels(40), budget=0.01, prior=None)
    assert all(line.certified is None and line.stage is Stage.BOOTSTRAP for line in found.lines)
    assert all(line.bound == 1.0 for line in found.lines)


def test_audits_that_break_the_promise_void_what_was_before():
    found = certificate_of(made_up_labels(300, audits=30, audits_right=False), budget=0.01, prior=None)
    assert found.tripped
    assert found.counted < 330


# It told a certificate that the proxy did not come to: there the labels that are not kept had had their looks.
def test_labels_that_are_not_kept_had_no_looks():
    kept = made_up_labels(700)
    alone, later = (certificate_of(kept, budget=0.05, prior=None, ever=ever) for ever in (len(kept), 10**6))
    assert (alone.earlier, later.earlier) == (0, 10**6 - len(kept))
    assert any(line.certified is not None for line in alone.lines)
    proven = [[line.budget for line in found.lines if line.certified is not None] for found in (alone, later)]
    assert set(proven[1]) < set(proven[0])


def test_without_labels_there_is_nothing_to_say():
    found = certificate_of([], budget=0.01, prior=None)
    assert found.to_json() == {
        "sources": {}, "labels": 0, "earlier": 0, "counted": 0, "tripped": False, "budgets": [], "reliability": []
    }  # fmt: skip
