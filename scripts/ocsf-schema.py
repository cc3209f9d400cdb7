#!/usr/bin/env python3
"""Compiles one class of the Open Cybersecurity Schema Framework to a JSON Schema.

    scripts/ocsf-schema.py CHECKOUT > tests/data/ocsf/authentication.schema.json

CHECKOUT is a work tree of https://github.com/ocsf/ocsf-schema. The class is Authentication (3002) with the profile
security_control. Objects that riskgate fills are spelled out; others are any object. Nothing is fetched.
"""

import json
import pathlib
import sys

CLASS = "events/iam/authentication.json"
PROFILE = "security_control"
# The objects that an exported event may hold.
OBJECTS = {
    "autonomous_system",
    "fingerprint",
    "http_request",
    "location",
    "metadata",
    "network_endpoint",
    "os",
    "policy",
    "product",
    "service",
    "user",
}
BASE = {"boolean_t": "boolean", "float_t": "number", "integer_t": "integer", "long_t": "integer", "string_t": "string"}


class Schema:
    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.dictionary = self.read("dictionary.json")
        self.types = self.dictionary["types"]["attributes"]

    def read(self, name):
        return json.loads((self.root / name).read_text())

    def object(self, name):
        for path in (self.root / "objects").glob("*.json"):
            found = json.loads(path.read_text())
            if found.get("name") == name:
                return found
        raise SystemExit(f"no object {name}")

    def event(self, name):
        paths = [*(self.root / "events").rglob("*.json")]
        for path in paths:
            found = json.loads(path.read_text())
            if found.get("name") == name:
                return found
        raise SystemExit(f"no event {name}")

    def merged(self, found, parent):
        """Attributes and constraints of a definition with those of what it extends."""
        attributes, constraints = {}, found.get("constraints", {})
        if above := found.get("extends"):
            attributes, inherited = self.merged(parent(above), parent)
            constraints = constraints or inherited
        for name, said in found.get("attributes", {}).items():
            if name == "$include" or not isinstance(said, dict):
                continue
            merged = {**attributes.get(name, {}), **said}
            if "enum" in said and "enum" in attributes.get(name, {}):
                merged["enum"] = {**attributes[name]["enum"], **said["enum"]}
            attributes[name] = merged
        return attributes, constraints

    def type(self, name):
        said = self.types.get(name)
        if said is None:
            return {"$ref": f"#/$defs/{name}"} if name in OBJECTS else {"type": "object"}
        base = name if name in BASE else said.get("type")
        schema = {"type": BASE[base]} if base in BASE else {}
        for key, to in (("max_len", "maxLength"), ("regex", "pattern")):
            if key in said:
                schema[to] = said[key]
        if "range" in said:
            schema["minimum"], schema["maximum"] = said["range"]
        return schema

    def shape(self, attributes, constraints):
        properties, required = {}, []
        for name, said in sorted(attributes.items()):
            known = self.dictionary["attributes"].get(name, {})
            schema = self.type(said.get("type") or known.get("type") or "string_t")
            values = {**known.get("enum", {}), **said.get("enum", {})}
            if values and schema.get("type") == "integer":
                schema = {"type": "integer", "enum": sorted(map(int, values))}
            elif values:
                schema = {"type": "string", "enum": sorted(values)}
            if said.get("is_array", known.get("is_array")):
                schema = {"type": "array", "items": schema}
            properties[name] = schema
            if said.get("requirement") == "required":
                required.append(name)
        shape = {"type": "object", "properties": properties, "additionalProperties": False}
        if required:
            shape["required"] = required
        if one := constraints.get("at_least_one"):
            shape["anyOf"] = [{"required": [name]} for name in one]
        return shape


def main(root):
    schema = Schema(root)
    attributes, constraints = schema.merged(schema.read(CLASS), schema.event)
    profile = schema.read(f"profiles/{PROFILE}.json")["attributes"]
    attributes = {**{name: said for name, said in profile.items() if isinstance(said, dict)}, **attributes}
    event = schema.shape(attributes, constraints)
    event["properties"]["class_uid"] = {"const": 3002}
    event["properties"]["category_uid"] = {"const": 3}
    definitions = {}
    for name in sorted(OBJECTS):
        definitions[name] = schema.shape(*schema.merged(schema.object(name), schema.object))
    version = schema.read("version.json")["version"]
    compiled = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Compiled by scripts/ocsf-schema.py from OCSF {version}; see README.md beside it.",
        "title": "OCSF Authentication (3002) with security_control",
        **event,
        "$defs": definitions,
    }
    print(json.dumps(compiled, indent=1))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
