"""Keys of our own: how one is made, what is kept of it, and what tenants are called."""

import pytest

from cacheproxy.core.keys import KEY_BYTES, SHORTEST, digest_of, hint_of, named_key, new_key, tenant_name

MADE_UP = "k" * SHORTEST


def test_a_key_is_its_random_bytes_in_plain_characters():
    one, other = new_key(bytes(KEY_BYTES)), new_key(b"\xff" * KEY_BYTES)
    assert one != other
    assert one.startswith("cpk_")
    assert len(one) == len("cpk_") + 43
    assert one.replace("-", "").replace("_", "").isalnum()


def test_what_is_kept_tells_keys_apart_and_nothing_else():
    key = new_key(bytes(KEY_BYTES))
    assert digest_of(key) == digest_of(key) != digest_of(key + "A")
    assert len(digest_of(key)) == 32
    assert key.startswith(hint_of(key))
    assert len(key) - len(hint_of(key)) > 32


def test_bytes_that_are_no_text_have_a_digest_all_the_same():
    assert digest_of("\udcff") != digest_of("\udcfe")


@pytest.mark.parametrize(
    ("text", "tenant"),
    [(MADE_UP, ""), (f"research:{MADE_UP}", "research"), (f"a.b-c_9:{MADE_UP}==", "a.b-c_9"), (f"{MADE_UP}==", "")],
)
def test_a_key_may_have_a_tenant_before_it(text, tenant):
    assert named_key(text) == (tenant, text.rpartition(":")[2])


@pytest.mark.parametrize(
    "text", ["s3cret", "research:s3cret", "research:", f"{MADE_UP} s3cret", f"{MADE_UP}s3cret\n", f"s3crét{MADE_UP}"]
)
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused_and_not_quoted(text):
    with pytest.raises(ValueError, match="16") as refused:
        named_key(text)
    assert "s3" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "a" * 64, "anonymous", "shared", "0123456789abcdef"])
def test_a_tenant_is_not_called_like_another_kind_of_caller(name):
    with pytest.raises(ValueError, match="a name has"):
        tenant_name(name)


@pytest.mark.parametrize("name", ["a", "research", "team-1", "a.b_c", "0123456789abcde", "a" * 63])
def test_names_of_tenants(name):
    assert tenant_name(name) == name
