"""The table of operations is one: no two of a name, none at the same place."""

from __future__ import annotations

from cacheproxy.server.api.operations import OPERATIONS


def test_names_are_unique():
    assert len({operation.name for operation in OPERATIONS}) == len(OPERATIONS)


def test_no_two_stand_at_one_place():
    assert len({(operation.method, operation.path) for operation in OPERATIONS}) == len(OPERATIONS)


def test_only_what_changes_something_has_a_body():
    assert all(operation.body is None for operation in OPERATIONS if operation.method != "POST")
