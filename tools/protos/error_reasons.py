"""Error reasons as the server's sources have them: cause, remedy, and the codes they come with."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from google.rpc import code_pb2

from vecserve_server.api.rpc.status import CODES

SERVER = Path(__file__).parent.parent.parent / "server" / "vecserve_server"
REASONS = SERVER / "reasons.py"
_CODE_OF = {error.__name__: code_pb2.Code.Name(code) for error, code in CODES.items()}


@dataclass(slots=True)
class DocumentedReason:
    """One member of Reason. `codes` are those of the errors that are raised with it."""

    name: str
    cause: str
    remedy: str
    codes: set[str] = field(default_factory=set)


def documented_reasons() -> dict[str, DocumentedReason]:
    """Return the members of Reason by name, in their order.

    Raises ValueError for one without a docstring of a cause and a remedy.
    """
    [members] = [
        node for node in ast.parse(REASONS.read_text()).body if isinstance(node, ast.ClassDef)
    ]
    found: dict[str, DocumentedReason] = {}
    for member, doc in zip(members.body, members.body[1:], strict=False):
        if not isinstance(member, ast.Assign):
            continue
        name = ast.unparse(member.targets[0])
        text = ast.literal_eval(doc.value) if isinstance(doc, ast.Expr) else ""
        cause, _, remedy = " ".join(text.split()).partition(". ")
        if not remedy:
            raise ValueError(f"Reason.{name} has no docstring that says the cause and what to do")
        found[name] = DocumentedReason(name, f"{cause}.", remedy)
    for name, error in raised_reasons():
        found[name].codes.add(_CODE_OF[error])
    return found


def raised_reasons() -> Iterator[tuple[str, str]]:
    """Yield each reason that the server's sources raise, with the name of the error's class."""
    for path in sorted(SERVER.rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                # An error that always has the same reason gives it to its base.
                for call in ast.walk(node):
                    if isinstance(call, ast.Call) and ast.unparse(call.func) == "super().__init__":
                        yield from ((reason, node.name) for reason in _reasons_in(call))
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in _CODE_OF:
                yield from ((reason, ast.unparse(node.func)) for reason in _reasons_in(node))


def _reasons_in(call: ast.Call) -> Iterator[str]:
    for node in ast.walk(call.args[0]) if call.args else ():
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "Reason":
            yield node.attr
