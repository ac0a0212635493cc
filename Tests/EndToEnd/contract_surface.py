"""The surface of the public Comfy API v2 as facts: operations, statuses, media types, headers, error codes, fields. No prose.

`python Tests/EndToEnd/contract_surface.py CONTRACT.yaml` writes contract_surface.json anew; test_contract.py compares openapi.yaml with that.
"""

import json
import pathlib
import re
import sys

import yaml

FACTS = pathlib.Path(__file__).with_name("contract_surface.json")
METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
EXTENSIONS = ("x-idempotency-key", "x-retryable", "x-streaming-upload")


def derive(document):
    """The facts of an OpenAPI 3.0 document."""
    def resolve(node):
        while "$ref" in node:
            target = document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/")]
            node = target
        return node

    def content(node):
        return {media_type: fields(media["schema"]) for media_type, media in node.get("content", {}).items()}

    def response(node):
        node = resolve(node)
        return {
            "headers": sorted(node.get("headers", {})),
            "codes": sorted(set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", node["description"]))) if "application/json" in node.get("content", {}) else [],
            "content": content(node),
        }

    def operation(item, node):
        parameters = [resolve(parameter) for parameter in item.get("parameters", []) + node.get("parameters", [])]
        body = resolve(node.get("requestBody", {}))
        return {
            "operationId": node["operationId"],
            "extensions": {name: node[name] for name in EXTENSIONS if name in node},
            "security": [sorted(alternative) for alternative in node.get("security", document.get("security", []))],
            "parameters": {f"{p['in']} {p['name']}": {"required": p.get("required", False), **fields(p["schema"])[""]} for p in parameters},
            "request": content(body),
            "responses": {status: response(answer) for status, answer in node["responses"].items()},
            "events": {name: fields({"$ref": event["schema"]})[""] for name, event in node.get("x-sse-events", {}).items()},
        }

    paths, schemas = document["paths"], document["components"]["schemas"]
    operations = {
        f"{method.upper()} {path}": operation(item, item[method]) for path, item in paths.items() for method in METHODS if method in item
    }
    for facts in operations.values():
        for status, answer in facts["responses"].items():
            if int(status) < 400:
                answer["codes"] = []
    return {
        "securitySchemes": {
            name: {"type": scheme["type"], "scheme": scheme["scheme"]} for name, scheme in document["components"]["securitySchemes"].items()
        },
        "errorCodes": {code: int(status) for code, status in re.findall(r"`(\w+)`\s+\((\d{3})", schemas["ErrorEnvelope"]["description"])},
        "operations": operations,
        "schemas": {name: fields(schema) for name, schema in schemas.items()},
    }


def fields(schema, path="", required=None):
    """What is known of a schema and of everything in it, by path: `.name` is a member, `[]` an element, `{}` any other member."""
    facts = {} if required is None else {"required": required}
    if schema.get("nullable"):
        facts["nullable"] = True
    references = [part["$ref"] for part in [schema, *schema.get("allOf", [])] if "$ref" in part]
    if references:
        (reference,) = references
        return {path: {**facts, "schema": reference.rpartition("/")[2]}}
    for keyword in ("type", "format", "enum", "minimum", "maximum"):
        if keyword in schema:
            facts[keyword] = schema[keyword]
    found = {path: facts}
    for name, member in schema.get("properties", {}).items():
        found |= fields(member, f"{path}.{name}", name in schema.get("required", []))
    if "items" in schema:
        found |= fields(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        found |= fields(schema["additionalProperties"], f"{path}{{}}")
    return found


def text(facts):
    """JSON in which what fits on a line stands on one, so that a change of the contract is a short diff."""
    def lines(value, indent):
        line = json.dumps(value)
        if not isinstance(value, dict) or len(line) <= 150:
            return line
        inner = ",\n".join(f"{indent}  {json.dumps(name)}: {lines(member, indent + '  ')}" for name, member in value.items())
        return f"{{\n{inner}\n{indent}}}"

    return lines(facts, "") + "\n"


if __name__ == "__main__":
    FACTS.write_text(text(derive(yaml.safe_load(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")))), encoding="utf-8")
