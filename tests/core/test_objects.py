"""What objects are described as: class, own code, settings; never keys, addresses and clients."""

import json
from dataclasses import dataclass

import pytest

from steelyard.core.errors import InvalidValue
from steelyard.core.objects import described_object, is_foreign


@dataclass
class Point:
    x: int
    api_key: str = ""


class Grader:
    def __init__(self, word, **more):
        self.word = word
        self.__dict__.update(more)

    def __call__(self, outputs):
        return self.word in outputs


def text(value, **more):
    return json.dumps(described_object(value, **more), sort_keys=True)


def test_settings_count_and_secrets_do_not():
    assert text(Grader("a")) != text(Grader("b"))
    plain = text(Grader("a"))
    for name in (
        "api_key",
        "openai_api_key",
        "base_url",
        "client_secret",
        "auth_token",
        "password",
        "http_proxy",
    ):
        assert text(Grader("a", **{name: "canary"})) == plain
    assert "canary" not in text(Point(1, "canary"))
    assert text(Grader("a", max_tokens=3)) != plain, "no secret, if it does sound like one"


def test_the_users_own_code_counts_and_a_package_s_does_not():
    assert "self.word in outputs" in text(Grader("a"))
    assert not is_foreign(Grader)
    assert is_foreign(json.JSONDecoder)
    assert described_object(json.JSONDecoder) == "json.decoder.JSONDecoder"


def test_cycles_end():
    one, two = Grader("a"), Grader("b")
    one.other, two.other = two, one
    assert text(one) == text(one)
    assert text(one) != text(two)


def test_what_shows_no_settings_needs_a_version():
    class Counter:  # no settings, but a count
        n = 0

    for value in (
        object(),
        memoryview(b"x"),
        [object()],
        Grader("a", held=object()),
        Grader("a", held=Counter()),
    ):
        with pytest.raises(InvalidValue, match="version="):
            described_object(value)
        assert described_object(value, version="1") is not None


def test_a_declared_digest_is_the_identity():
    class Known:
        digest = "sha256:" + "0" * 64

    assert described_object(Known()) == Known.digest
