"""The running admin plane against its own document: whatever is sent, it answers as it says."""

from __future__ import annotations

import json
import urllib.request

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from support.servers import proxy_from, proxy_settings

from cacheproxy.server.api.openapi import document

schema = schemathesis.openapi.from_dict(document())
schema.config.phases.coverage.enabled = False  # hundreds of cases, of which few say more than twenty random ones
checked = schema.exclude(operation_id=["events", "import"])  # one never ends, one takes no JSON


@pytest.fixture(scope="module")
def plane(host, simulated, tmp_path_factory):
    with host.open(proxy_from(proxy_settings(tmp_path_factory.mktemp("admin"), f"{simulated}/v1"))) as served:
        for question in ("How do I reset my PIN?", "How do I reset my card's PIN?", "How do I reset my PIN?"):
            body = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}]}).encode()
            headers = {"Authorization": "Bearer sk-test", "Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(f"{served.v1}/chat/completions", body, headers)).close()
        yield served.admin


@checked.parametrize()
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_the_plane_answers_as_its_document_says(case, plane):
    case.call_and_validate(base_url=plane)
