"""Which web pages may use the server, and what a page from elsewhere gets."""

import pytest
from starlette.testclient import TestClient

from export.serve import application
from export.serve.access import Access, access, host_name
from tests.export.serve.conftest import MODEL, PREDICT, is_error, put

ROW = {"signature_name": "encode", "instances": [[1, 2, 3]]}
LOCAL = access("127.0.0.1", ["Model.example.com"], ["https://pages.example.com"])
PAGE = "https://pages.example.com"


@pytest.fixture(scope="module")
def visit(saved, tmp_path_factory):
    """visit(access) -> a client of the application, as somebody who reaches 127.0.0.1:8501."""
    export = tmp_path_factory.mktemp("export")
    put(saved["small"], export, 1)
    clients = {}

    def visit(access):
        if access not in clients:
            app = application.create(export, access=access)
            app.state.models.refresh()
            clients[access] = TestClient(app, "http://127.0.0.1:8501").__enter__()
        return clients[access]

    yield visit
    for client in clients.values():
        client.__exit__(None, None, None)


def test_who_may_call_by_where_it_listens():
    known = {"localhost", "127.0.0.1", "::1"}
    assert access("127.0.0.1", [], []) == Access(frozenset(known), ())
    assert access("::1", ["A.b"], ["*"]) == Access(frozenset({*known, "a.b"}), ("*",))
    ports = access("127.0.0.1", ["Model.example.com:8501", "[fe80::1]:80", "FE80::2"], []).hosts
    assert ports == known | {"model.example.com", "fe80::1", "fe80::2"}
    assert access("127.0.0.2", [], []).hosts == known | {"127.0.0.2"}
    for everywhere in ("0.0.0.0", "::", "192.168.0.5"):
        assert access(everywhere, [], []).hosts is None
        assert access(everywhere, ["A.b"], []).hosts == {*known, everywhere, "a.b"}


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a", "a"),
        ("A:80", "a"),
        ("[::1]:80", "::1"),
        ("[::1]", "::1"),
        ("", ""),
        ("[", ""),
        ("a:b@c", "c"),
        (":80", ""),
    ],
)
def test_names_in_host_headers(host, name):
    assert host_name(host) == name


@pytest.mark.parametrize("host", ["127.0.0.1:8501", "localhost:8501", "LOCALHOST", "[::1]:8501", "model.example.com"])
def test_known_hosts_are_answered(visit, host):
    assert visit(LOCAL).get(MODEL, headers={"Host": host}).status_code == 200
    own = {"Host": host, "Origin": f"http://{host}"}
    assert visit(LOCAL).post(PREDICT, json=ROW, headers=own).json() == {"predictions": [[1.0, 2.0]]}


@pytest.mark.parametrize(
    "host", ["evil.com", "evil.com:8501", "127.0.0.1.evil.com", "[", "127.0.0.2", "localhost.evil.com"]
)
@pytest.mark.parametrize("path", [MODEL, "/", "/metrics", "/nothing"])
def test_hosts_of_others_are_refused_on_loopback_alone(visit, host, path):
    """As they come when a page's own name is made to mean 127.0.0.1."""
    answer = visit(LOCAL).get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert is_error(answer)
    words = answer.json()["error"]
    assert f"Expected the host 127.0.0.1 or ::1 or localhost or model.example.com. Received: {host!r}." in words
    assert "--allow-host" in words
    assert visit(application.ANYBODY).get(path, headers={"Host": host}).status_code == (
        404 if path == "/nothing" else 200
    )


@pytest.mark.parametrize(
    "origin",
    ["https://evil.com", "null", "http://127.0.0.1:9999", "http://localhost:8501", "https://pages.example.com.a", "["],
)
def test_origins_of_others_are_refused_on_loopback(visit, origin):
    answer = visit(LOCAL).post(PREDICT, json=ROW, headers={"Origin": origin})
    assert answer.status_code == 400
    assert f"Expected a request of this server's own page. Received: one of {origin!r}." in answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers
    elsewhere = visit(application.ANYBODY).post(PREDICT, json=ROW, headers={"Origin": origin})
    assert elsewhere.status_code == 200  # no browser shows it to the page
    assert "access-control-allow-origin" not in elsewhere.headers


def preflight(client, origin=PAGE, method="POST"):
    headers = {
        "Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": "content-type",
        "Access-Control-Request-Private-Network": "true",
    }  # fmt: skip
    return client.options(PREDICT, headers=headers)


def test_pages_of_an_origin_that_was_named(visit):
    client = visit(LOCAL)
    asked = preflight(client)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] == PAGE
    assert asked.headers["access-control-allow-private-network"] == "true"
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "content-type" in asked.headers["access-control-allow-headers"].lower()
    answer = client.post(PREDICT, json=ROW, headers={"Origin": PAGE})
    assert answer.json() == {"predictions": [[1.0, 2.0]]}
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "Origin" in answer.headers["vary"]
    refused = client.post(PREDICT, json={}, headers={"Origin": PAGE})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (400, PAGE)  # the page sees why
    assert preflight(client, "https://evil.com").status_code == 400
    assert preflight(client, method="DELETE").status_code == 400


def test_pages_of_everybody(visit):
    client = visit(access("127.0.0.1", [], ["*"]))
    assert preflight(client, "https://evil.com").headers["access-control-allow-origin"] == "*"
    assert client.post(PREDICT, json=ROW, headers={"Origin": "null"}).headers["access-control-allow-origin"] == "*"
    assert client.get(MODEL, headers={"Host": "evil.com"}).status_code == 400


def test_without_cors_a_preflight_allows_nothing(visit):
    for client in (visit(application.ANYBODY), visit(access("127.0.0.1", [], []))):
        answer = preflight(client)
        assert answer.status_code in (400, 405)
        assert is_error(answer)
        assert "access-control-allow-origin" not in answer.headers
