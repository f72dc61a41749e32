"""Writes docs/protocol.md, the reference of the typed API, from the comments in protos/.

    .venv/bin/python tools/protos/reference.py [--check]

With --check it writes nothing and fails if the page is not the one that protos/ gives.
"""

import re
import sys
import tempfile
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent.parent
PROTOS = ROOT / "protos"
PAGE = ROOT / "docs" / "protocol.md"
FILES = ("vecserve/v1/embedding.proto", "vecserve/v1/model.proto")
PACKAGE = ".vecserve.v1."

HEAD = """\
<!-- Generated from protos/ by tools/protos/reference.py: edit those comments; `make proto`. -->

# The protocol

Package `vecserve.v1`: every call, message and value, as [the protos](../protos/vecserve/v1)
document them. How to call it from your language: [other-languages.md](clients.md).
"""

Path_ = tuple[int, ...]
"""Where in a file a thing is declared, as SourceCodeInfo.Location.path says."""

# Field numbers of FileDescriptorProto, DescriptorProto, ServiceDescriptorProto and
# EnumDescriptorProto that lead from a thing to what it contains.
MESSAGE, ENUM, SERVICE = 4, 5, 6
FIELD, METHOD, VALUE = 2, 2, 2


def read() -> list[FileDescriptorProto]:
    """Return the files' descriptors with their comments. Raises SystemExit if protoc fails."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "protos.binpb"
        include = Path(protoc.__file__).parent / "_proto"
        flags = [f"-I{PROTOS}", f"-I{include}", "--include_source_info"]
        if code := protoc.main(["protoc", *flags, f"--descriptor_set_out={out}", *FILES]):
            sys.exit(code)
        files = FileDescriptorSet.FromString(out.read_bytes()).file
        return sorted(files, key=lambda file: FILES.index(file.name))


class Page:
    """The page as it grows. The methods append a thing with its comment."""

    def __init__(self) -> None:
        self._parts = [HEAD]
        self._comments: dict[Path_, str] = {}

    def add(self, file: FileDescriptorProto) -> None:
        """Append all of a file: services, messages, enums."""
        self._comments = {
            tuple(place.path): place.leading_comments.strip("\n")
            for place in file.source_code_info.location
        }
        for i, service in enumerate(file.service):
            self._service(service, (SERVICE, i))
        for i, message in enumerate(file.message_type):
            self._message(message, (MESSAGE, i))
        for i, enum in enumerate(file.enum_type):
            self._enum(enum, (ENUM, i))

    def text(self) -> str:
        """Return the whole page."""
        return "\n".join(self._parts)

    def _service(self, service: ServiceDescriptorProto, path: Path_) -> None:
        self._parts.append(f"## {service.name}\n\n{self._block(path)}")
        for i, method in enumerate(service.method):
            asked = ("stream " if method.client_streaming else "") + type_link(method.input_type)
            given = ("stream " if method.server_streaming else "") + type_link(method.output_type)
            self._parts.append(f"### {method.name}\n\n{asked} → {given}\n")
            self._parts.append(self._block((*path, METHOD, i)))

    def _message(self, message: DescriptorProto, path: Path_) -> None:
        self._parts.append(f"## {message.name}\n\n{self._block(path)}".rstrip("\n") + "\n")
        if not message.field:
            self._parts.append("No fields.\n")
            return
        rows = ["| field | type | number | |", "|---|---|---|---|"]
        for i, field in enumerate(message.field):
            comment = self._cell((*path, FIELD, i))
            if field.HasField("oneof_index") and not field.proto3_optional:
                comment = f"One of `{message.oneof_decl[field.oneof_index].name}`. {comment}"
            rows.append(f"| `{field.name}` | {type_of(field)} | {field.number} | {comment} |")
        self._parts.append("\n".join(rows) + "\n")

    def _enum(self, enum: EnumDescriptorProto, path: Path_) -> None:
        rows = ["| value | number | |", "|---|---|---|"]
        for i, value in enumerate(enum.value):
            rows.append(f"| `{value.name}` | {value.number} | {self._cell((*path, VALUE, i))} |")
        self._parts.append(f"## {enum.name}\n\n{self._block(path)}\n" + "\n".join(rows) + "\n")

    def _block(self, path: Path_) -> str:
        """Return a comment as paragraphs; "" if there is none."""
        lines = [line.removeprefix(" ") for line in self._comments.get(path, "").split("\n")]
        text = "\n".join(lines)
        # Markdown takes a line right below a list for part of it, a comment's writer does not.
        text = re.sub(r"(?m)^((?:- |  ).*\n)(?=[^\s-])", r"\1\n", text)
        return text + "\n" if text else ""

    def _cell(self, path: Path_) -> str:
        """Return a comment as one line of a table."""
        return " ".join(self._comments.get(path, "").split()).replace("|", "\\|")


def type_of(field: FieldDescriptorProto) -> str:
    """Return a field's type as a reader of the proto has it."""
    label = ""
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        label = "repeated "
    elif field.proto3_optional:
        label = "optional "
    if field.type_name:
        return label + type_link(field.type_name)
    return label + FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()


def type_link(name: str) -> str:
    """Return a message's or enum's name, linked if it is on this page."""
    own = name.removeprefix(PACKAGE)
    return name.removeprefix(".") if own == name else f"[{own}](#{own.lower()})"


def main(check: bool) -> int:
    """Write or check the page; return the exit code."""
    page = Page()
    for file in read():
        page.add(file)
    if not check:
        PAGE.write_text(page.text(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page.text():
        print("docs/protocol.md is not the page of protos/: run `make proto`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
