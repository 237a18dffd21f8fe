"""The Python in docs/recipes.md, run as it stands there, with only the proxy's address put in its place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"
ADDRESS = "http://127.0.0.1:8090"
NOT_INSTALLED = {"LlamaIndex", "LiteLLM"}
"""Large packages with many pins of their own; these recipes were run by hand."""
ELSEWHERE = {"Azure OpenAI": "test_azure.py, which has an Azure to ask"}


def blocks():
    for section in re.split(r"^## ", RECIPES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title = section.partition("\n")[0]
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL), 1):
            yield pytest.param(title, code, id=f"{title}-{number}")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the recipes do not close their clients
@pytest.mark.parametrize(("title", "code"), list(blocks()))
def test_a_recipe_is_answered_and_then_served_from_the_cache(monkeypatch, proxy, api_key, calls, title, code):
    if title in NOT_INSTALLED:
        pytest.skip(f"{title} is not among the packages of the tests")
    if title in ELSEWHERE:
        pytest.skip(ELSEWHERE[title])
    monkeypatch.setenv("OPENAI_API_KEY", api_key)
    monkeypatch.setenv("ANTHROPIC_API_KEY", api_key)
    assert ADDRESS in code

    answers = []
    for _ in range(2):
        before = calls()
        names = {}
        exec(compile(code.replace(ADDRESS, proxy.url), str(RECIPES), "exec"), names)
        answers.append((calls() - before, names["answer"]))

    assert [asked for asked, _ in answers] == [1, 0]
