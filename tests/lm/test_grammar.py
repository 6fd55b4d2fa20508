"""Which requests are sent with a grammar of our own, and which are left as they are."""

import copy
import json

import pytest

from steelyard.lm.grammar import spaced_json

PLAIN = {
    "type": "object",
    "properties": {
        "a": {"type": "string", "enum": ["x", "日本"]},
        "b": {
            "type": "array",
            "items": {"anyOf": [{"type": "integer", "minimum": 0}, {"$ref": "#/$defs/n"}]},
        },
    },
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"n": {"type": "string", "pattern": "^(?:[0-9]+|none)$", "maxLength": 9}},
}


def request(schema, **more):
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    return {"messages": [], "response_format": form} | more


def test_a_known_schema_travels_as_a_grammar_and_the_request_is_not_changed():
    before = request(PLAIN, extra_body={"top_k": 3})
    kept = copy.deepcopy(before)
    sent = spaced_json(before)
    assert before == kept
    assert "response_format" not in sent
    assert sent["extra_body"]["top_k"] == 3
    head, _, body = sent["extra_body"]["grammar"].partition("%json ")
    assert head == "%llguidance {}\nstart: "
    schema = json.loads(body)
    spacing = schema.pop("x-guidance")
    assert schema == PLAIN
    assert spacing == {"whitespace_flexible": False, "key_separator": ": ", "item_separator": ", "}


def test_a_property_may_be_called_like_a_keyword_that_is_not_known():
    schema = {"type": "object", "properties": {"format": {"type": "string"}}}
    assert "grammar" in spaced_json(request(schema))["extra_body"]


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "nonsense"},
        {"type": ["string", "null"]},
        {"type": "string", "format": "date"},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": r"(a)\1"},
        {"type": "string", "pattern": "("},
        {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"not": {}}}}}},
        {"anyOf": [{"type": "string"}, True]},
        {"type": "object", "additionalProperties": {"oneOf": []}},
        {"$defs": {"a": {"if": {}}}},
    ],
)
def test_a_schema_that_the_grammar_may_not_understand_is_left_to_the_engine(schema):
    before = request(schema)
    assert spaced_json(before) is before


@pytest.mark.parametrize(
    "before",
    [
        {"messages": []},
        {"messages": [], "response_format": None},
        {"messages": [], "response_format": {"type": "json_object"}},
        {"messages": [], "response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
        request(PLAIN, extra_body={"grammar": "root ::= [a-z]+"}),
    ],
)
def test_other_requests_are_left_alone(before):
    assert spaced_json(before) is before
