"""Values as types of pydantic models and FastAPI endpoints: they take and give the wire form."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.json_schema import JsonSchemaMode
from tests.unit.given import AT, FRESH, SMALL, message
from tests.unit.test_codec_events import ADDED

from turnstream.domain.command_specs import COMMANDS
from turnstream.domain.commands import AddMessage, Command, CreateSession
from turnstream.domain.content import ImageContent, MessageContent, TextContent, ToolCallContent
from turnstream.domain.events import EVENTS, Event, MessageAdded, SessionCreated, SessionDeleted
from turnstream.domain.models import ChatMessage, ChatMessageRole, Session, SessionConfig, SessionInfo, SessionPage
from turnstream.domain.patches import ChatMessagePatch, SessionPatch
from turnstream.domain.wire_form import WireValue

CALL = ToolCallContent(tool_call_id="call-1", name="search", args={"query": "x"})
MESSAGE = msgspec.structs.replace(message("m1", key=1), content=(TextContent("Hello"), ImageContent(url="i.png"), CALL))
SESSION = Session(
    id="s",
    config=SMALL,
    messages=(MESSAGE,),
    metrics=FRESH,
    created_at=AT,
    updated_at=AT,
    is_active=True,
    version=2,
)
INFO = SessionInfo(
    id="s", provider="openai", model="small", created_at=AT, updated_at=AT, message_count=1, is_active=True
)
PAGE = SessionPage(sessions=(INFO,), next_cursor="next")
DELETED = SessionDeleted(session_id="s", incarnation="c0", version=3, timestamp=AT, meta=ADDED.meta)
CREATED = SessionCreated(session_id="s", incarnation="c0", version=1, timestamp=AT, meta=ADDED.meta, session=SESSION)
VALUES: list[WireValue] = [
    *(MESSAGE, SESSION, INFO, PAGE, SMALL, FRESH, CALL, ADDED, DELETED, CREATED),
    *(ChatMessagePatch(content=(TextContent("Other"),)), SessionPatch(is_active=False)),
    *(AddMessage("s", MESSAGE), CreateSession(SessionConfig("openai", "gpt-4"), "s")),
]


class Turn(BaseModel):
    """What a program may keep of a turn of a chat."""

    question: ChatMessage
    answers: list[ChatMessage] = []
    session: Session | None = None
    last: Event | None = None
    part: MessageContent | None = None


# ── pydantic ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_validated_and_serialised_as_its_wire_form(value: WireValue) -> None:
    adapter = TypeAdapter(type(value))
    assert adapter.validate_python(value) is value
    assert adapter.validate_python(value.to_dict()) == adapter.validate_json(value.to_json()) == value
    assert adapter.dump_python(value) == adapter.dump_python(value, mode="json") == value.to_dict()
    assert json.loads(adapter.dump_json(value)) == value.to_dict()


@pytest.mark.parametrize("value", [ADDED, DELETED, AddMessage("s", MESSAGE)], ids=lambda value: type(value).__name__)
def test_a_base_class_stands_for_every_type(value: Event | Command[Any]) -> None:
    base: Any = Event if isinstance(value, Event) else Command
    adapter = TypeAdapter(base)
    assert adapter.validate_python(value.to_dict()) == value
    assert adapter.dump_python(value) == value.to_dict()


def test_values_are_fields_of_models() -> None:
    turn = Turn(question=MESSAGE, answers=[MESSAGE], session=SESSION, last=ADDED, part=CALL)
    plain = turn.model_dump()
    assert plain == {
        "question": MESSAGE.to_dict(),
        "answers": [MESSAGE.to_dict()],
        "session": SESSION.to_dict(),
        "last": ADDED.to_dict(),
        "part": CALL.to_dict(),
    }
    assert Turn.model_validate(plain) == Turn.model_validate_json(turn.model_dump_json()) == turn


def test_an_error_names_the_field_of_the_model_and_of_the_value() -> None:
    with pytest.raises(ValidationError) as raised:
        Turn.model_validate({"question": {**MESSAGE.to_dict(), "role": "robot"}, "answers": ["Hello"]})
    question, answer = raised.value.errors()
    assert question["loc"] == ("question",)
    assert "$.role" in question["msg"]
    assert answer["loc"] == ("answers", 0)
    assert "ChatMessage" in answer["msg"]


def test_the_limit_of_depth_holds() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    with pytest.raises(ValidationError, match="deeper than 64"):
        Turn.model_validate({"question": {**MESSAGE.to_dict(), "metadata": deep}})


# ── JSON Schema ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("mode", ["validation", "serialization"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_the_json_schema_has_the_fields_of_the_wire_form(value: WireValue, mode: JsonSchemaMode) -> None:
    schema = TypeAdapter(type(value)).json_schema(mode=mode)
    assert set(schema.get("required", ())) <= value.to_dict().keys() <= schema["properties"].keys()
    assert schema["title"] == type(value).__name__
    assert references(schema) == schema.get("$defs", {}).keys()


@pytest.mark.parametrize(("base", "kinds"), [(Event, EVENTS), (Command, COMMANDS)])
def test_the_json_schema_of_a_base_class_is_any_of_its_classes(base: Any, kinds: dict[str, type]) -> None:  # noqa: ANN401 - a class
    schema = TypeAdapter(base).json_schema()
    found = [schema["$defs"][part["$ref"].rpartition("/")[2]] for part in schema["anyOf"]]
    by_type = {
        (part["properties"]["type"].get("enum") or [part["properties"]["type"]["const"]])[0]: part["title"]
        for part in found
    }
    assert by_type == {name: kind.__name__ for name, kind in kinds.items()}


def references(schema: object) -> set[str]:
    """Return the names of the components that a schema refers to."""
    return set(re.findall(r'"\$ref": "[^"]*/([^"/]+)"', json.dumps(schema)))


# ── FastAPI ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def app() -> FastAPI:
    app = FastAPI()
    by_name = {type(value).__name__: value for value in VALUES}

    def serve(name: str, value: object, **options: Any) -> None:  # noqa: ANN401 - FastAPI's
        app.get(f"/{name}", operation_id=name, **options)(lambda: value)

    for name, value in by_name.items():
        serve(f"plain-{name}", value, response_model=None)
        serve(name, value, response_model=type(value))
    serve("event", ADDED, response_model=Event)
    serve("either", DELETED, response_model=MessageAdded | SessionDeleted)
    serve("history", (MESSAGE, MESSAGE), response_model=tuple[ChatMessage, ...])
    serve("turn", Turn(question=MESSAGE), response_model=Turn)

    @app.post("/messages")
    def post_message(message: Annotated[ChatMessage, Body()]) -> ChatMessage:
        return message

    @app.post("/commands")
    def post_command(command: Annotated[Command[Any], Body()]) -> dict[str, str]:
        return {"kind": type(command).__name__}

    return app


@pytest.fixture(scope="module")
def web(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


@pytest.mark.parametrize("prefix", ["", "plain-"], ids=["annotated", "not annotated"])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_an_endpoint_returns_the_wire_form(web: TestClient, value: WireValue, prefix: str) -> None:
    response = web.get(f"/{prefix}{type(value).__name__}")
    assert (response.status_code, response.json()) == (200, value.to_dict())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/event", ADDED.to_dict()),
        ("/either", DELETED.to_dict()),
        ("/history", [MESSAGE.to_dict(), MESSAGE.to_dict()]),
        ("/turn", {"question": MESSAGE.to_dict(), "answers": [], "session": None, "last": None, "part": None}),
    ],
)
def test_an_endpoint_returns_values_within_others(web: TestClient, path: str, body: object) -> None:
    assert web.get(path).json() == body


def test_an_endpoint_takes_the_wire_form(web: TestClient) -> None:
    assert web.post("/messages", json=MESSAGE.to_dict()).json() == MESSAGE.to_dict()
    assert web.post("/commands", json=AddMessage("s", MESSAGE).to_dict()).json() == {"kind": "AddMessage"}


def test_an_invalid_body_is_a_422_that_names_the_field(web: TestClient) -> None:
    response = web.post("/messages", json={**MESSAGE.to_dict(), "role": "robot"})
    assert response.status_code == 422
    assert "$.role" in response.json()["detail"][0]["msg"]


def test_openapi_has_a_component_for_each_class(app: FastAPI) -> None:
    document = app.openapi()
    components = document["components"]["schemas"]
    # pydantic before 2.14 may have two of a name, one for what is taken and one for what is given.
    names = {name.removesuffix("-Input").removesuffix("-Output") for name in components}
    kinds = (ChatMessage, ChatMessageRole, Session, SessionPage, TextContent, *EVENTS.values(), *COMMANDS.values())
    assert names >= {kind.__name__ for kind in kinds}
    assert references(document) <= components.keys()
    answer = document["paths"]["/Session"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer == {"$ref": "#/components/schemas/Session"}
    assert components["Session"]["properties"]["messages"]["items"] == {"$ref": "#/components/schemas/ChatMessage"}


# ── without pydantic ─────────────────────────────────────────────────────────────────────────────────────────────────

WITHOUT = """
import sys, types
package = types.ModuleType("turnstream")  # without the imports of the whole library
package.__path__ = sys.argv[1:]
sys.modules["turnstream"] = package
from turnstream.domain.events import Event
from turnstream.domain.commands import Command, GetSession
Command.from_json(GetSession("s").to_json())
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("pydantic", "pydantic_core")))
"""


def test_values_do_not_import_pydantic() -> None:
    import turnstream  # noqa: PLC0415 - for its path only

    command = [sys.executable, "-c", WITHOUT, *turnstream.__path__]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
