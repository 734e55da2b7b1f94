#!/usr/bin/env python3
"""Extracts the schemas of OpenAI's Realtime server events as JSON Schema.

    python3 tests/schema/extract.py openapi.yaml > tests/schema/realtime.json

The argument is `openapi.yaml` of https://github.com/openai/openai-openapi at the commit below
(MIT licence, see LICENSE-openai-openapi.txt). What is kept is what tests need: types, names,
limits. Prose, examples, defaults and vendor extensions are left out, and objects are closed
(`additionalProperties: false`), so that a misspelled field of ours is found.

What the API sends today and this version of the schemas does not know is in `exceptions.json`.
"""

import json
import sys

import yaml

COMMIT = "f85dbe223d40e1a31cba812ab2d755c7e98a92a3"
COMMENT = (
    "Realtime server events. Made by extract.py from openapi.yaml of "
    f"https://github.com/openai/openai-openapi, commit {COMMIT} (2026-08-21). "
    "MIT licence, copyright (c) OpenAI, see LICENSE-openai-openapi.txt."
)
ROOT = "RealtimeServerEvent"
PREFIX = "#/components/schemas/"
DROPPED = {"default", "description", "discriminator", "example", "examples", "format", "title"}
COMBINING = {"allOf", "anyOf", "oneOf"}


def convert(schema, found):
    """Returns `schema` as compact JSON Schema and adds the schemas it refers to to `found`."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(PREFIX)
        found.add(name)
        return {"$ref": f"#/$defs/{name}"}
    kept = {}
    for key, value in schema.items():
        if key in DROPPED or key.startswith("x-"):
            continue
        if key == "properties":
            value = {name: convert(inner, found) for name, inner in value.items()}
        elif key in COMBINING:
            value = [convert(inner, found) for inner in value]
        elif key in {"items", "additionalProperties"}:
            value = convert(value, found)
        kept[key] = value
    if "properties" in kept and not COMBINING & kept.keys():
        kept.setdefault("additionalProperties", False)
    if kept.pop("nullable", False):
        kept = {"anyOf": [kept, {"type": "null"}]}
    return kept


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schemas = yaml.safe_load(file)["components"]["schemas"]
    todo = {name for name in schemas if name.startswith(ROOT) and name != ROOT}
    done = {}
    while todo:
        name = todo.pop()
        found = set()
        done[name] = convert(schemas[name], found)
        todo |= found - done.keys()
    print(f'{{"$comment": {json.dumps(COMMENT)},')
    print('"$schema": "https://json-schema.org/draft/2020-12/schema",')
    print('"$defs": {')
    lines = (
        f"{json.dumps(name)}: {json.dumps(done[name], separators=(',', ':'), ensure_ascii=False)}"
        for name in sorted(done)
    )
    print(",\n".join(lines))
    print("}}")


if __name__ == "__main__":
    main()
