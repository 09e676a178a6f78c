"""A server that stands in for the Hub where bundles are uploaded: repositories are folders, by the real protocol.

What huggingface_hub sends: the repository, how each file goes (`preupload`), large files by Git LFS, then one commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml


@dataclass
class HubServer:
    """Its address, its repositories below `folder`, and the answers that it is told to give instead."""

    folder: Path
    token: str = "hf_test"
    url: str = ""
    commits: list[str] = field(default_factory=list)
    refuses: int = 0

    def repository(self, name: str) -> Path:
        return self.folder / "repositories" / name


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    """A running server, with no repository yet."""
    hub = HubServer(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:
    objects = hub.folder / "objects"
    objects.mkdir(parents=True, exist_ok=True)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def answer(self, content: Any, status: int = 200) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def is_allowed(self) -> bool:
            if hub.refuses:
                self.body()
                self.answer({"error": "refused"}, hub.refuses)
                return False
            if self.headers.get("Authorization") != f"Bearer {hub.token}":
                self.body()
                self.answer({"error": "Invalid credentials"}, 401)
                return False
            return True

        def do_GET(self) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            if not self.is_allowed():
                return
            name = "/".join(parts[2:4])
            root = hub.repository(name)
            files = sorted(path for path in root.rglob("*") if path.is_file())
            listed = [
                {
                    "type": "file",
                    "path": path.relative_to(root).as_posix(),
                    "oid": "0" * 40,
                    "size": path.stat().st_size,
                }
                for path in files
            ]
            if parts[4:5] == ["tree"]:
                self.answer(listed)
            else:
                siblings = [{"rfilename": entry["path"]} for entry in listed]
                self.answer({"id": name, "sha": "a" * 40, "siblings": siblings, "private": False, "tags": []})

        def do_PUT(self) -> None:
            content = self.body()
            name = self.path.rsplit("/", 1)[1]
            assert hashlib.sha256(content).hexdigest() == name
            (objects / name).write_bytes(content)
            self.answer({})

        def do_POST(self) -> None:
            if not self.is_allowed():
                return
            parts = urlsplit(self.path).path.strip("/").split("/")
            body = self.body()
            if parts == ["api", "repos", "create"]:
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.repository(name).mkdir(parents=True, exist_ok=True)
                self.answer({"url": f"{hub.url}/{name}"})
            elif parts == ["api", "validate-yaml"]:
                header = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
                wrong = [] if header.get("license") else [{"message": "license is missing"}]
                self.answer({"errors": wrong, "warnings": []})
            elif parts[-1] == "batch":
                self.answer({"transfer": "basic", "objects": [self.upload(one) for one in json.loads(body)["objects"]]})
            elif parts[4] == "preupload":
                files = json.loads(body)["files"]
                modes = [{"path": one["path"], "shouldIgnore": False, "uploadMode": mode(one)} for one in files]
                self.answer({"files": modes})
            elif parts[4] == "commit":
                self.commit("/".join(parts[2:4]), [json.loads(line) for line in body.splitlines() if line])
            else:
                self.answer({"error": f"what is {self.path}?"}, 404)

        def upload(self, one: dict[str, Any]) -> dict[str, Any]:
            href = f"{hub.url}/objects/{one['oid']}"
            return {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": href, "header": {}}}}

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            root = hub.repository(name)
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    hub.commits.append(value["summary"])
                    continue
                path = root / value["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                if line["key"] == "file":
                    path.write_bytes(base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    path.write_bytes((objects / value["oid"]).read_bytes())
                elif line["key"] == "deletedFile":
                    path.unlink()
            commit = "b" * 40
            self.answer({"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}"})

    def mode(one: dict[str, Any]) -> str:
        return "lfs" if ".onnx" in one["path"] else "regular"

    return Handler
