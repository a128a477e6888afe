"""docs/asyncapi.yaml says what streams/events.py and streams/topics.py say."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from streams import events
from streams.dead_letters import headers_of
from streams.topics import TOPICS
from streams.validation import RejectedEvent

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
CHANNELS: dict[str, Any] = {channel["address"]: channel for channel in DOCUMENT["channels"].values()}
STRUCTS = {
    name: struct
    for name, struct in vars(events).items()
    if isinstance(struct, type) and issubclass(struct, msgspec.Struct) and struct is not events.Wire
}
SPEAKING = {"title", "description", "examples"}  # words for people; everything else must agree
ALIASES = {"Id", "Title"}  # schemas that the document names once and the code inlines
DLQ_ADDRESSES = {topic.dlq for topic in TOPICS if topic.dead_letters}


def resolve(reference: str) -> Any:
    node: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def plain(schema: Any, *, is_names: bool = False) -> Any:
    """Without words for people, with aliases inlined, enums sorted and Python's end of string as JSON Schema's."""
    if isinstance(schema, list | tuple):
        return [plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref", "")
    if not is_names and reference.rpartition("/")[2] in ALIASES:
        return plain({**resolve(reference), **{key: value for key, value in schema.items() if key != "$ref"}})
    result = {}
    for key, value in schema.items():
        if is_names:
            result[key] = plain(value)
        elif key == "pattern":
            result[key] = re.sub(r"\\Z$", "$", value)
        elif key in {"enum", "required"}:
            result[key] = sorted(value)
        elif key not in SPEAKING:
            result[key] = plain(value, is_names=key == "properties")
    return result


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    )


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_fields_types_and_what_is_required_are_those_of_the_struct(name: str) -> None:
    _, schemas = msgspec.json.schema_components([STRUCTS[name]], ref_template="#/components/schemas/{name}")
    assert plain(SCHEMAS[name]) == plain(schemas[name])


@pytest.mark.parametrize("name", sorted(STRUCTS))
def test_fields_come_in_the_order_of_the_struct_and_each_is_described(name: str) -> None:
    _, schemas = msgspec.json.schema_components([STRUCTS[name]])
    assert list(SCHEMAS[name]["properties"]) == list(schemas[name]["properties"])
    assert all(part["description"].endswith((".", "...")) for part in SCHEMAS[name]["properties"].values())


def test_the_channels_are_the_topics_and_their_dead_letters() -> None:
    assert set(CHANNELS) == {topic.name for topic in TOPICS} | DLQ_ADDRESSES


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_partitions_cleanup_and_retention_are_those_of_the_topic(topic: Any) -> None:
    binding = CHANNELS[topic.name]["bindings"]["kafka"]
    assert binding.get("partitions") == topic.partitions
    assert binding["topicConfiguration"]["cleanup.policy"] == ["compact" if topic.compacted else "delete"]
    assert binding["topicConfiguration"].get("retention.ms") == topic.retention_ms


@pytest.mark.parametrize("address", sorted(set(CHANNELS) - DLQ_ADDRESSES))
def test_the_struct_of_a_channel_names_the_topic_and_the_key_in_its_docstring(address: str) -> None:
    channel = CHANNELS[address]
    (message,) = channel["messages"].values()
    payload = resolve(message["$ref"])["payload"]
    reference = payload["$ref"] if "$ref" in payload else payload["oneOf"][0]["$ref"]
    words = STRUCTS[reference.rpartition("/")[2]].__doc__ or ""
    assert f"`{address}`" in words
    key = channel["description"].rpartition("Key: ")[2].rstrip(".")
    assert key in words


def test_only_topics_with_tombstones_allow_a_null_value() -> None:
    nullable = {
        name for name, message in DOCUMENT["components"]["messages"].items() if "oneOf" in message.get("payload", {})
    }
    assert nullable == {"catalogItem", "expertUpdate"}


def test_dead_letters_carry_the_headers_that_the_code_writes() -> None:
    letter = RejectedEvent(topic="t", partition=0, offset=1, key=None, value=b"{", stage="decode", reason="truncated")
    headers = {name: value.decode() for name, value in headers_of(letter)}
    schema = SCHEMAS["DeadLetterHeaders"]
    assert set(schema["required"]) == set(schema["properties"]) == set(headers)
    validator("DeadLetterHeaders").validate(headers)


def test_every_reference_leads_somewhere_and_every_schema_is_used() -> None:
    found = references(DOCUMENT)
    for reference in found:
        resolve(reference)
    assert {f"#/components/schemas/{name}" for name in SCHEMAS} <= set(found)
    assert {f"#/components/messages/{name}" for name in DOCUMENT["components"]["messages"]} <= set(found)
    channels = {f"#/channels/{name}" for name in DOCUMENT["channels"]}
    assert channels == {operation["channel"]["$ref"] for operation in DOCUMENT["operations"].values()}


def test_what_the_code_writes_is_valid_by_the_document_and_a_wrong_type_is_not() -> None:
    ranking = events.Ranking(
        ranking_id="r",
        user_id="u",
        model_version=3,
        items=(events.RankedItem(item_id="i", score=0.5, reason="repeat"),),
        ranked_at_ms=1,
    )
    record = msgspec.json.decode(msgspec.json.encode(ranking))
    validator("Ranking").validate(record)
    record["items"][0]["score"] = "high"
    with pytest.raises(jsonschema.ValidationError, match="'high' is not of type 'number'"):
        validator("Ranking").validate(record)


def test_the_event_of_the_design_is_valid_and_one_without_a_user_is_not() -> None:
    event = {
        "event_id": "e",
        "user_id": "u",
        "item_id": "i",
        "event_type": "click",
        "event_time": "2026-01-31T12:00:00Z",
    }
    validator("ClickstreamEvent").validate(event)
    assert msgspec.json.decode(msgspec.json.encode(event), type=events.ClickstreamEvent).user_id == "u"
    for wrong in ({**event, "user_id": ""}, {**event, "item_id": "a\x00b"}, {**event, "position": -1}):
        with pytest.raises(jsonschema.ValidationError):
            validator("ClickstreamEvent").validate(wrong)
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(wrong), type=events.ClickstreamEvent)
