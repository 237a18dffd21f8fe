"""Who shares an answer with whom: what differs never meets, what is the same always does."""

import copy
import json
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from multidict import CIMultiDict
from support.keys import PLACE, RULES, chat, json_values, keys_of, plain_keys

from cacheproxy import jsontext
from cacheproxy.core import scope
from cacheproxy.core.scope import NEUTRAL, KeyRules, Place

json_objects = st.dictionaries(st.text(min_size=1), json_values, max_size=5)


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
