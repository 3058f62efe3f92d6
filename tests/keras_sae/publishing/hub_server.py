"""A stand-in for the Hugging Face Hub: repositories in memory, over HTTP, as `huggingface_hub` uses them."""

import base64
import hashlib
import http.server
import json
import re
import threading


class Hub(http.server.ThreadingHTTPServer):
    """Its `repositories` are name -> {path: bytes}; `asked` are the requests so far, "METHOD path"."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Requests)
        self.repositories, self.asked, self.refused = {}, [], False
        self.url = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit(self, name):
        """Return the name of the present state of a repository."""
        files = sorted((path, _sha1(content)) for path, content in self.repositories[name].items())
        return _sha1(repr(files).encode())


def _sha1(content):
    return hashlib.sha1(content).hexdigest()


class Requests(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, headers=()):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **dict(headers)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"{self.command} {path}")
        if path == "/api/whoami-v2":
            return self.answer({"name": "me", "type": "user"})
        if found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/revision/(\w+))?", path):
            if found[1] not in hub.repositories or found[2] not in (None, "main", hub.commit(found[1])):
                code = "RevisionNotFound" if found[1] in hub.repositories else "RepoNotFound"
                return self.answer({}, 404, {"X-Error-Code": code})
            return self.answer({"id": found[1], "sha": hub.commit(found[1]), "siblings": []})
        if found := re.fullmatch(r"/api/models/(\w+/\w+)/tree/\w+", path):
            files = hub.repositories[found[1]].items()
            return self.answer([{"type": "file", "path": p, "size": len(c), "oid": _sha1(c)} for p, c in files])
        found = re.fullmatch(r"/(\w+/\w+)/resolve/\w+/(.+)", path)
        content = hub.repositories[found[1]][found[2]]
        return self.answer(content, headers={"ETag": f'"{_sha1(content)}"', "X-Repo-Commit": hub.commit(found[1])})

    do_HEAD = do_GET

    def do_POST(self):
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"POST {path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path == "/api/repos/create":
            if hub.refused:
                return self.answer({"error": "You don't have the rights to create a model here"}, 403)
            asked = json.loads(body)
            name = f"{asked['organization'] or 'me'}/{asked['name']}"
            if name in hub.repositories:
                return self.answer({"url": f"{hub.url}/{name}"}, 409)
            hub.repositories[name] = {}
            return self.answer({"url": f"{hub.url}/{name}"})
        if path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        name, kind = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit)/main", path).groups()
        if kind == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            return self.answer(
                {"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False, "oid": None} for p in files]}
            )
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                hub.repositories[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del hub.repositories[name][value["path"]]
        commit = hub.commit(name)
        return self.answer({"commitUrl": f"{hub.url}/{name}/commit/{commit}", "commitOid": commit, "success": True})
