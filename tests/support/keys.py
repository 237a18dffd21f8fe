"""Keys of requests."""

from hypothesis import strategies as st

from cacheproxy.core import scope
from cacheproxy.core.scope import KeyRules, Place
from cacheproxy.wire.dialects import DIALECTS

RULES = KeyRules(secret=b"s" * 32)
PLACE = Place(dialect="openai-chat", upstream="https://llm.example/v1/chat/completions", query="", tenant="t1")
CHAT = DIALECTS["/v1/chat/completions"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def keys_of(body, dialect=CHAT, place=PLACE, rules=RULES):
    view = dialect.view(body)
    return scope.keys(place, body, view.skeleton, view.texts, rules)


def plain_keys(body, rules=RULES):
    """The keys of a body as such, whatever API it may be for."""
    return scope.keys(PLACE, body, body, (), rules)


def chat(question="How old is he?", **members):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], **members}
