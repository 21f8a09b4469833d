"""Finds the SDK's code: two folders up in the repository, or next to this file in a source distribution."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SHARED = ("svid", "LICENSE")


class ShareWithRepository(BuildHookInterface[Any]):
    """Adds the files that the SDK shares with the repository to the distribution."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files; an editable installation and a source distribution find them automatically."""
        root = Path(self.root)
        if version == "editable" or (root / "svid").is_dir():
            return
        repository = root.parent.parent
        shared = _SHARED if self.target_name == "sdist" else _SHARED[:1]
        build_data["force_include"].update({str(repository / name): name for name in shared})
