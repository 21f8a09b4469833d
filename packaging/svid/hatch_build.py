"""Where the SDK's code is: two folders up in the repository, beside this file in a source distribution."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SHARED = ("svid", "LICENSE")


class ShareWithRepository(BuildHookInterface[Any]):
    """Takes what the SDK shares with the repository into the distribution."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable installation and a source distribution find them by themselves."""
        root = Path(self.root)
        if version == "editable" or (root / "svid").is_dir():
            return
        repository = root.parent.parent
        shared = _SHARED if self.target_name == "sdist" else _SHARED[:1]
        build_data["force_include"].update({str(repository / name): name for name in shared})
