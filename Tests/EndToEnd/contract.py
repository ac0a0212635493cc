"""openapi.yaml, and whether an answer is one that it describes."""

import pathlib

import yaml
from jsonschema import Draft202012Validator, FormatChecker

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "openapi.yaml"


class Contract:
    def __init__(self):
        self.text = DOCUMENT.read_bytes()
        self.document = yaml.safe_load(self.text)
        self.components = self.document["components"]

    def validate(self, schema, value):
        """`schema`: the name of a component, or a schema."""
        if isinstance(schema, str):
            schema = {"$ref": f"#/components/schemas/{schema}"}
        validator = Draft202012Validator({**schema, "components": self.components}, format_checker=FormatChecker())
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not errors, f"{errors}\nin {value}"

    def resolve(self, node):
        while "$ref" in node:
            target = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                target = target[part.replace("~1", "/")]
            node = target
        return node

    def operation(self, method, template):
        return self.document["paths"][template][method.lower()]

    def check(self, method, template, reply):
        """The answer's status is documented for the operation, its headers are there, and a JSON body fits the schema."""
        responses = self.operation(method, template)["responses"]
        assert str(reply.status) in responses, f"{method} {template} answered {reply.status}, which is not documented: {reply.body[:500]}"
        response = self.resolve(responses[str(reply.status)])
        for name, header in response.get("headers", {}).items():
            if self.resolve(header).get("required"):
                assert name.lower() in reply.headers, f"{method} {template} {reply.status} has no {name}"
        if reply.content_type == "application/json" and method.upper() != "HEAD":
            self.validate(response["content"]["application/json"]["schema"], reply.json())
        return reply

    def check_event(self, event):
        catalogue = self.operation("GET", "/api/v2/jobs/{id}/events")["x-sse-events"]
        assert event.type in catalogue, f"event {event.type} is not documented"
        self.validate(catalogue[event.type]["schema"], event.data)

    def check_error(self, reply, status, code):
        assert (reply.status, reply.json()["error"]["code"]) == (status, code), reply.body
        self.validate("ErrorEnvelope", reply.json())
        return reply.json()["error"]
