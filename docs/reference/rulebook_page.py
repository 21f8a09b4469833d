"""The page of every key of a rulebook, from the structs that read it (cognomen/rulebook/tables)."""

from collections.abc import Iterator, Mapping

from cognomen.rulebook.tables import (
    AgentTable,
    CaseTable,
    ComponentTable,
    Guard,
    LimitsTable,
    ProviderTable,
    SelectorTypesTable,
    schema,
)

__all__ = ["rulebook_page"]

_TABLES = {
    "[agent.NAME]": AgentTable,
    "[agent.NAME.component.NAME]": ComponentTable,
    "limits": LimitsTable,
    "[provider.NAME]": ProviderTable,
    "[[case]]": CaseTable,
    "[selector_types]": SelectorTypesTable,
}
_GUARDS = {
    Guard.OVERLAP: "One process on one node is this component and another one.",
    Guard.SHARED_USER: "Another component has the same user on the same nodes; only facts about the program tell them apart.",
    Guard.ANY_USER: "Every user of a node can show its selectors: they contain neither `unix:uid` nor `unix:user`.",
    Guard.EXTERNAL_AUDIENCE: "A reasoning component gets tokens for another audience than its model's.",
    Guard.FOREIGN_ORCHESTRATOR: "It may call the orchestrator of another agent.",
    Guard.SHARED_AUDIENCE: "Agents of two owners use an external audience, and no provider says who answers for it.",
}
_INTRODUCTION = (
    "A rulebook is one TOML file, or all files `*.toml` of one folder; an agent is in one of them. Names are 1 to 63 of"
    " `a-z 0-9 . _ -`. All files and their names have at most 16 MiB together, a folder at most 10,000 files, a file name"
    " at most 255 bytes of printable characters, and a key at most 8 dots. `cognomen rulebook schema` prints the JSON"
    " Schema for editors. Why there is nothing more: [ADR-0028](../adr/0028-the-language-of-rules.md)."
)


def rulebook_page(mark: str) -> str:
    """The whole page.

    Args:
        mark: its first line.
    """
    parts = [mark, "# The rulebook\n", _INTRODUCTION]
    definitions = schema()["$defs"]
    assert isinstance(definitions, dict)  # noqa: S101 - JSON Schema
    for title, table in _TABLES.items():
        found = definitions[table.__name__]
        parts += [f"\n## `{title}`\n", f"{found['description']}\n", "| key | value | meaning |", "|---|---|---|"]
        parts += list(_rows(found, definitions))
    parts += ["\n## Guard rails\n", "What `cognomen prove` finds, unless the component has it in `allow`.\n"]
    parts += ["| name | what it means |", "|---|---|", *(f"| `{one}` | {text} |" for one, text in _GUARDS.items())]
    return "\n".join(parts) + "\n"


def _rows(table: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]) -> Iterator[str]:
    required, properties = table.get("required", []), table["properties"]
    assert isinstance(properties, dict)  # noqa: S101 - JSON Schema
    assert isinstance(required, list)  # noqa: S101 - JSON Schema
    for name, key in properties.items():
        if name == "component":
            continue
        needed = ", required" if name in required else ""
        yield f"| `{name}` | {_value(key, definitions)}{needed} | {key.get('description', '')} |"


def _value(key: Mapping[str, object], definitions: Mapping[str, Mapping[str, object]]) -> str:
    found = "text"
    match key:
        case {"$ref": str(name)} | {"allOf": [{"$ref": str(name)}]}:
            found = _value(definitions[name.rpartition("/")[2]], definitions)
        case {"anyOf": [*choices]}:
            found = " or ".join(_value(one, definitions) for one in choices if isinstance(one, dict))
        case {"enum": [*values]}:
            found = ", ".join(f"`{one}`" for one in sorted(map(str, values)))
        case {"type": "array", "items": dict(inner)}:
            found = f"list of {_value(inner, definitions)}"
        case {"type": "string", "pattern": _}:
            found = "duration, such as `30m`"
        case {"type": "string", "format": "date"}:
            found = "date, such as `2027-03-31`"
        case {"type": "integer", "minimum": least, "maximum": most}:
            found = f"{least} to {most}"
        case {"type": "object", "title": "LimitsTable"}:
            found = "table of [limits](#limits)"
        case {"type": "object"}:
            found = "table of texts"
    return found
