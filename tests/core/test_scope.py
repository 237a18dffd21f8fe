"""Who shares an answer with whom: what differs never meets, what is the same always does."""

import copy
import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import CIMultiDict

from cacheproxy import jsontext
from cacheproxy.core import scope
from cacheproxy.core.scope import NEUTRAL, KeyRules, Place
from cacheproxy.wire.dialects import DIALECTS

RULES = KeyRules(secret=b"s" * 32)
PLACE = Place(dialect="openai-chat", upstream="https://llm.example/v1/chat/completions", query="", tenant="t1")
CHAT = DIALECTS["/v1/chat/completions"]
MESSAGES = DIALECTS["/v1/messages"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(min_size=1), json_values, max_size=5)


def keys_of(body, dialect=CHAT, place=PLACE, rules=RULES):
    view = dialect.view(body)
    return scope.keys(place, body, view.skeleton, view.texts, rules)


def plain_keys(body, rules=RULES):
    """The keys of a body as such, whatever API it may be for."""
    return scope.keys(PLACE, body, body, (), rules)


def chat(question="How old is he?", **members):
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": question}], **members}


def a_rich_body():
    return {
        "model": "gpt-4o-mini",
        "messages": [
            {"role": "system", "content": "You answer briefly."},
            {"role": "user", "content": "Who was the first president?", "name": "ada"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": '{"q": 1}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "George Washington"},
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
                    {"type": "text", "text": "Is this him?"},
                ],
            },
        ],
        "temperature": 0.7,
        "max_tokens": 100,
        "seed": 7,
        "stop": ["\n", "END"],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}},
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "look_up",
                    "description": "Looks up",
                    "parameters": {"type": "object", "properties": {"cache_control": {"type": "string"}}},
                },
            }
        ],
        "tool_choice": "auto",
        "x_unknown": {"deep": [{"er": True}]},
    }


def shuffled(value, random):
    """The same JSON value, its members in another order."""
    if isinstance(value, dict):
        names = list(value)
        random.shuffle(names)
        return {name: shuffled(value[name], random) for name in names}
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    return value


def paths(value, here=()):
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield (*here, name)
        yield from paths(inner, (*here, name))


def changed(body, path, edit):
    copied = copy.deepcopy(body)
    holder = copied
    for name in path[:-1]:
        holder = holder[name]
    edit(holder, path[-1])
    return copied


def label(path):
    return ".".join(map(str, path))


# --- equal requests


# bifrost 2791, 3190: byte-identical requests hashed differently
@given(body=json_objects, random=st.randoms())
def test_requests_hashed_differently_although_only_their_members_order_differed(body, random):
    assert plain_keys(shuffled(body, random)) == plain_keys(body)


@given(random=st.randoms(use_true_random=False))
def test_a_chat_keeps_its_keys_in_any_order_of_members_white_space_and_escapes(random):
    body = a_rich_body()
    told_otherwise = json.dumps(shuffled(body, random), indent=2, ensure_ascii=True).encode()
    assert keys_of(jsontext.parse(told_otherwise)) == keys_of(body)


def test_making_keys_changes_nothing_in_the_body():
    body = a_rich_body()
    rules = KeyRules(secret=b"s" * 32, ignore_patterns=(re.compile("briefly"),), isolate_by_user=True)
    keys_of(body, rules=rules)
    assert body == a_rich_body()


# --- unequal requests


@given(one=json_objects, other=json_objects)
def test_different_bodies_have_different_keys(one, other):
    def counting(body):
        return {name: value for name, value in body.items() if name not in NEUTRAL}

    assume(jsontext.canonical(counting(one)) != jsontext.canonical(counting(other)))
    assert plain_keys(one).key != plain_keys(other).key


@pytest.mark.parametrize("path", list(paths(a_rich_body())), ids=label)
def test_a_change_anywhere_in_a_request_changes_its_key(path):
    def replace(holder, name):
        holder[name] = f"{holder[name]}!" if isinstance(holder[name], str) else [holder[name], "changed"]

    body = changed(a_rich_body(), path, replace)
    assert plain_keys(body).key != plain_keys(a_rich_body()).key


@pytest.mark.parametrize("path", list(paths(a_rich_body())), ids=label)
def test_leaving_out_anything_changes_the_key(path):
    def remove(holder, name):
        del holder[name]

    body = changed(a_rich_body(), path, remove)
    assert plain_keys(body).key != plain_keys(a_rich_body()).key


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(chat(model="gpt-4o"), id="model"),  # apisix 13578: the key lacked the model
        pytest.param(chat(tools=[{"type": "function", "function": {"name": "f"}}]), id="tools"),
        pytest.param(chat(x_new_parameter=1), id="an unknown member"),
        pytest.param(chat(temperature=0), id="temperature"),
        pytest.param(chat(seed=True), id="seed true"),
        pytest.param(chat(seed=1), id="seed one"),
        pytest.param(chat(seed="1"), id="seed as text"),
        pytest.param(chat(seed=None), id="seed null"),
        pytest.param(chat("How old is she?"), id="question"),
        pytest.param(chat([{"type": "text", "text": "How old is he?"}]), id="structure"),  # higress 4445
    ],
)
def test_requests_met_although_they_ask_for_something_else(other):
    bodies = [chat(), other]
    assert keys_of(bodies[0]).key != keys_of(bodies[1]).key


def test_different_types_of_one_value_stay_apart():
    seeds = [True, 1, 1.0, "1", None, [1], {"1": 1}]
    assert len({keys_of(chat(seed=seed)).key for seed in seeds}) == len(seeds)


# GPTCache 10: "how old is he" was answered with another person's age
def test_a_follow_up_question_was_answered_for_another_conversation():
    def after(person):
        return {
            "model": "gpt-4o-mini",
            "messages": [
                {"role": "user", "content": f"Who is {person}?"},
                {"role": "assistant", "content": f"{person} is an actor."},
                {"role": "user", "content": "How old is he?"},
            ],
        }

    one, other = keys_of(after("Tom Hanks")), keys_of(after("Keanu Reeves"))
    assert one.scope != other.scope
    assert one.key != other.key


def test_a_system_prompt_and_an_image_are_part_of_the_scope():
    def pictured(system, url):
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is this?"}]
        return {"messages": [{"role": "system", "content": system}, {"role": "user", "content": content}]}

    bodies = [pictured("a", "data:1"), pictured("b", "data:1"), pictured("a", "data:2")]
    assert len({keys_of(body).scope for body in bodies}) == 3


@pytest.mark.parametrize(
    "elsewhere",
    [
        pytest.param({"tenant": "t2"}, id="tenant"),  # litellm 19575, bifrost 5769: hits across tenants
        pytest.param({"namespace": "n"}, id="namespace"),
        pytest.param({"query": "?api-version=2"}, id="query"),
        pytest.param({"upstream": "https://other.example/v1/chat/completions"}, id="upstream"),
        pytest.param({"dialect": "anthropic-messages"}, id="dialect"),
        pytest.param({"headers": [("openai-beta", "x")]}, id="key header"),
    ],
)
def test_requests_from_different_places_met(elsewhere):
    members = {name: getattr(PLACE, name) for name in ("dialect", "upstream", "query", "tenant", "namespace")}
    other = Place(**{**members, **elsewhere})
    assert keys_of(chat(), place=other).scope != keys_of(chat()).scope


@given(st.lists(st.text(max_size=4), min_size=4, max_size=4), st.lists(st.text(max_size=4), min_size=4, max_size=4))
def test_neighbouring_parts_of_a_place_never_run_together(one, other):
    assume(one != other)

    def placed(parts):
        place = Place("d", upstream=parts[0], query=parts[1], tenant=parts[2], namespace=parts[3])
        return keys_of(chat(), place=place)

    assert placed(one) != placed(other)


def test_texts_cut_elsewhere_are_other_texts():
    def parts(*texts):
        return chat([{"type": "text", "text": text} for text in texts])

    one, other = keys_of(parts("ab", "c")), keys_of(parts("a", "bc"))
    assert one.scope == other.scope
    assert one.key != other.key


def test_questions_in_one_scope_have_keys_of_their_own():
    one, other = keys_of(chat("How old is he?")), keys_of(chat("How tall is he?"))
    assert one.scope == other.scope
    assert one.key != other.key


def test_a_text_that_looks_like_the_placeholder_is_a_text():
    empty = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": ""}]}
    assert keys_of(empty) != keys_of(chat("null"))
    assert keys_of(empty).key != plain_keys({**empty, "messages": [{"role": "user", "content": None}]}).key


@pytest.mark.parametrize("seed", [2**63, 2**64, 2**64 + 1, 2**64 + 2, 10**30, 10**30 + 1])
def test_integers_past_64_bits_were_rounded_into_each_other(seed):
    bodies = [jsontext.parse(jsontext.dump(chat(seed=number))) for number in (seed, seed + 1)]
    assert keys_of(bodies[0]).key != keys_of(bodies[1]).key


def test_another_secret_gives_other_keys():
    assert keys_of(chat(), rules=KeyRules(secret=b"t" * 32)) != keys_of(chat())


# --- what is neutral


@pytest.mark.parametrize("name", sorted(NEUTRAL))
@given(value=json_values)
def test_neutral_members_do_not_count(name, value):
    if name in {"stream", "stream_options"}:
        value = True if name == "stream" else {"include_usage": True}
    assert plain_keys({**chat(), name: value}) == plain_keys(chat())


@pytest.mark.parametrize("name", sorted(NEUTRAL))
def test_neutral_names_count_where_they_mean_something_else(name):
    within = chat(response_format={"schema": {name: 1}})
    assert plain_keys(within) != plain_keys(chat(response_format={"schema": {}}))


def test_members_that_the_operator_calls_neutral_do_not_count():
    rules = KeyRules(secret=b"s" * 32, neutral=NEUTRAL | {"trace"})
    assert keys_of(chat(trace="abc"), rules=rules) == keys_of(chat(), rules=rules)
    assert keys_of(chat(trace="abc")) != keys_of(chat())


def claude(marks, properties=()):
    """A request in whose every block ``marks`` stand."""
    return {
        "model": "claude-sonnet-4-5",
        "max_tokens": 10,
        "system": [{"type": "text", "text": "Be brief.", **marks}],
        "tools": [
            {"name": "get", "input_schema": {"type": "object", "properties": {n: {} for n in properties}}, **marks}
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Get it.", **marks}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "get", "input": {}, **marks}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "t",
                        "content": [{"type": "text", "text": "Got it.", **marks}],
                        **marks,
                    }
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "And now?", **marks}]},
        ],
    }


def test_cache_control_on_any_block_does_not_count():
    marked = claude({"cache_control": {"type": "ephemeral", "ttl": "1h"}})
    assert keys_of(marked, MESSAGES) == keys_of(claude({}), MESSAGES)


def test_a_tools_own_property_named_cache_control_was_dropped():
    assert keys_of(claude({}, properties=["cache_control"]), MESSAGES) != keys_of(claude({}), MESSAGES)
    called = claude({})
    called["messages"][1]["content"][0]["input"] = {"cache_control": "no"}
    assert keys_of(called, MESSAGES) != keys_of(claude({}), MESSAGES)


def test_billing_lines_in_front_of_a_system_prompt_do_not_count():
    def billed(number):
        body = claude({})
        line = f"x-anthropic-billing-header: cc_version=2.1; cch={number};"
        return {**body, "system": [{"type": "text", "text": line}, *body["system"]]}

    assert keys_of(billed(1), MESSAGES) == keys_of(billed(2), MESSAGES) == keys_of(claude({}), MESSAGES)


def test_a_system_block_that_says_more_than_billing_counts():
    body = claude({})
    body["system"].insert(0, {"type": "text", "text": "x-anthropic-billing-header: 1;\nAlways answer in French."})
    assert keys_of(body, MESSAGES) != keys_of(claude({}), MESSAGES)


# --- ignored patterns


STAMPS = KeyRules(secret=b"s" * 32, ignore_patterns=(re.compile(r"\d{4}-\d\d-\d\d"), re.compile(r"req-\w+")))


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(
            lambda text: chat() | {"messages": [{"role": "system", "content": text}, *chat()["messages"]]}, id="system"
        ),
        pytest.param(
            lambda text: chat() | {"messages": [{"role": "developer", "content": text}, *chat()["messages"]]},
            id="developer",
        ),
        pytest.param(
            lambda text: (
                chat()
                | {"messages": [{"role": "system", "content": [{"type": "text", "text": text}]}, *chat()["messages"]]}
            ),
            id="system in blocks",
        ),
        pytest.param(lambda text: chat(system=text), id="system member"),
        pytest.param(lambda text: chat(system=[{"type": "text", "text": text}]), id="system member in blocks"),
        pytest.param(lambda text: chat(instructions=text), id="instructions"),
        pytest.param(lambda text: chat(input=[{"role": "developer", "content": text}]), id="input"),
    ],
)
def test_ignored_patterns_are_blank_in_system_prompts(build):
    one, other = build("It is 2026-01-02, req-abc."), build("It is 2026-03-04, req-xyz.")
    assert keys_of(one, rules=STAMPS) == keys_of(other, rules=STAMPS)
    assert keys_of(one) != keys_of(other)
    assert keys_of(build("It was 2026-01-02, req-abc."), rules=STAMPS) != keys_of(one, rules=STAMPS)


def test_ignored_patterns_count_in_what_users_say():
    one, other = chat("What happened on 2026-01-02?"), chat("What happened on 2026-03-04?")
    assert keys_of(one, rules=STAMPS) != keys_of(other, rules=STAMPS)


# --- end users


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"user": "u2"}, id="user"),
        pytest.param({"safety_identifier": "u2"}, id="safety_identifier"),
        pytest.param({"metadata": {"user_id": "u2"}}, id="metadata.user_id"),
    ],
)
def test_end_users_share_unless_the_operator_isolates_them(members):
    isolating = KeyRules(secret=b"s" * 32, isolate_by_user=True)
    body = chat(user="u1") | members
    assert keys_of(body) == keys_of(chat(user="u1"))
    assert keys_of(body, rules=isolating) != keys_of(chat(user="u1"), rules=isolating)
    assert keys_of(body, rules=isolating) == keys_of(copy.deepcopy(body), rules=isolating)


# --- credentials and headers


def test_the_credential_is_everything_that_identifies_a_caller():
    assert scope.credential({}, "") == ""
    assert scope.credential({"x-api-key": "k"}, "") == "k"
    tellings = [
        scope.credential({"authorization": "Bearer k"}, ""),
        scope.credential({"authorization": "Bearer k", "x-api-key": "l"}, ""),
        scope.credential({}, "?key=k"),
        scope.credential({}, "?alt=sse&key=l"),
    ]
    assert len(set(tellings)) == len(tellings)


def test_a_query_parameter_in_first_place_is_a_credential_too():
    assert scope.credential({}, "?key=secret&alt=sse") == scope.credential({}, "?alt=sse&key=secret") != ""


def test_a_credentials_name_does_not_tell_the_credential():
    name = scope.credential_name("https://one.example/v1", "Bearer sk-secret", secret=b"s" * 32)
    assert re.fullmatch(r"[0-9a-f]{32}", name)
    assert name != scope.credential_name("https://two.example/v1", "Bearer sk-secret", secret=b"s" * 32)
    assert name != scope.credential_name("https://one.example/v1", "Bearer sk-secret", secret=b"t" * 32)


def test_key_headers_are_read_in_a_fixed_order():
    rules = KeyRules(secret=b"s" * 32, headers=(*scope.KEY_HEADERS, "x-own"))
    headers = {"x-own": "1", "anthropic-beta": "b", "accept": "no"}
    assert scope.key_headers(headers, rules) == [("anthropic-beta", "b"), ("x-own", "1")]


def test_every_line_of_a_repeated_header_counts():
    one, other = (CIMultiDict([("anthropic-beta", "a"), ("Anthropic-Beta", beta)]) for beta in ("b", "c"))
    assert scope.key_headers(one, RULES) != scope.key_headers(other, RULES)
    one, other = (CIMultiDict([("Authorization", "a"), ("authorization", key)]) for key in ("b", "c"))
    assert scope.credential(one, "") != scope.credential(other, "")


def test_callers_known_by_their_cookie_alone_were_one_tenant():
    """Without another credential all of them were "anonymous", and read each other's answers."""
    assert scope.credential({"cookie": "session=a"}, "") == "session=a"
    assert scope.credential({"cookie": "session=a"}, "") != scope.credential({"cookie": "session=b"}, "")


def test_a_cookie_beside_a_key_does_not_make_another_tenant():
    assert scope.credential({"authorization": "k", "cookie": "a"}, "") == scope.credential({"authorization": "k"}, "")
