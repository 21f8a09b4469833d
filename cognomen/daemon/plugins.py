"""Adapters that a configuration chooses by name, from this project or from any other installed package.

Shape: a package declares an entry point in the group of a seam. The configuration contains the entry point's name, and it leads to a
Plugin. The built-in adapters are declared in the same way, in pyproject.toml. Each seam is defined in its port.py; the module adapters of
each daemon loads the plugins.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from cognomen.daemon.config import read_table, unknown_key
from cognomen.protocol.errors import Kind, Refused
from cognomen.protocol.printable import printable
from svid.clock import Clock
from svid.spiffeid import TrustDomain

__all__ = ["NoSettings", "Plugin", "PluginContext", "Seam", "Settings", "check_read", "names_of"]

SettingsT = TypeVar("SettingsT", bound=msgspec.Struct)
PlaceT = TypeVar("PlaceT")
AdapterT = TypeVar("AdapterT")

Settings = Mapping[str, Mapping[str, Mapping[str, object]]]
"""The tables `[plugins.KEY.NAME]` of a configuration: by the key that chooses the plugin, and by its name."""


class NoSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For an adapter that has no settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginContext:
    """What an adapter of the issuer gets besides its own settings.

    Args:
        state_dir: the issuer's; an adapter that keeps files has its own directory in it. It need not exist while the adapter is made.
    """

    trust_domain: TrustDomain
    state_dir: Path
    clock: Clock


@dataclass(frozen=True, slots=True)
class Plugin(Generic[SettingsT, PlaceT, AdapterT]):
    """How to make an adapter: the type of its own settings, and a function of the settings and of what its seam provides.

    Adapters are made before a daemon has made anything, and also by `check`, which starts nothing. So the function must be quick, and must
    neither write a file nor use the network; it may read files that the settings name. What the adapter needs beyond that, it opens at its
    first use.
    """

    settings: type[SettingsT]
    make: Callable[[SettingsT, PlaceT], AdapterT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seam(Generic[PlaceT, AdapterT]):
    """A port whose adapters are plugins.

    Args:
        group: the group of entry points.
        key: the key of the configuration that chooses one.
    """

    group: str
    key: str

    def names(self) -> tuple[str, ...]:
        """The names to choose from, sorted."""
        return tuple(sorted({entry.name for entry in entry_points(group=self.group)}))

    def check_known(self, names: Collection[str]) -> None:
        """Refuse names that no installed package has, before anything is said about their settings.

        Raises:
            Refused: INVALID for an unknown name, with the known ones; CONFLICT when two packages have a plugin of that name.
        """
        for name in names:
            self._entry(name)

    def find(self, name: str, settings: Settings) -> Callable[[PlaceT], AdapterT]:
        """Load the plugin of that name and read its settings; returns a function that makes the adapter.

        Raises:
            Refused: as check_known; INVALID for a plugin that cannot be loaded, and for settings that it does not accept. The function
                raises INVALID for an adapter that cannot be made, or that goes by a different name.
        """
        plugin = self._loaded(name)
        table = settings.get(self.key, {}).get(name, {})
        try:
            read = read_table(table, plugin.settings, key=f"plugins.{self.key}.{name}")
        except Refused:
            raise
        except Exception as e:  # whatever the struct of another package raises
            raise self._broken(name, "cannot read its settings", e, self._settings_hint(name)) from e
        return partial(self._made, name, plugin, read)

    def _made(
        self,
        name: str,
        plugin: "Plugin[msgspec.Struct, PlaceT, AdapterT]",
        settings: msgspec.Struct,
        place: PlaceT,
    ) -> AdapterT:
        try:
            adapter = plugin.make(settings, place)
        except Refused as e:
            if e.kind is not Kind.UNAVAILABLE:
                raise
            raise Refused(Kind.INVALID, e.detail, hint=e.hint or self._settings_hint(name), **e.facts) from e
        except (Exception, SystemExit) as e:  # whatever the code of another package raises
            raise self._broken(name, "cannot be made", e, self._settings_hint(name)) from e
        called = getattr(adapter, "name", name)
        if called != name:
            raise Refused(Kind.INVALID, f"{self.key}: expected an adapter with the name {name}, found {called!r}")
        return adapter

    def _loaded(self, name: str) -> "Plugin[msgspec.Struct, PlaceT, AdapterT]":
        entry = self._entry(name)
        try:
            found: object = entry.load()
        except (Exception, SystemExit) as e:  # as above
            hint = f"repair or reinstall the package that provides {entry.value}; it must be in the environment of cognomen"
            raise self._broken(name, "cannot be loaded", e, hint) from e
        if not isinstance(found, Plugin):
            raise Refused(Kind.INVALID, f"{self.key}: expected a plugin at {entry.value}, found {type(found).__name__}")
        return found

    def _broken(self, name: str, what: str, error: BaseException, hint: str) -> Refused:
        """INVALID, because trying again changes nothing: the configuration, or what it names, must change first."""
        return Refused(Kind.INVALID, f"{self.key}: {name} {what}: {type(error).__name__}: {error}", hint=hint)

    def _settings_hint(self, name: str) -> str:
        return f"see its settings, plugins.{self.key}.{name} in the configuration, and what they name"

    def _entry(self, name: str) -> EntryPoint:
        found = sorted(entry_points(group=self.group, name=name), key=lambda entry: entry.value)
        if not found:
            raise Refused(
                Kind.INVALID,
                f"{self.key}: expected one of {', '.join(self.names()) or 'the installed ones'}, found {name!r}",
                hint="install the package that provides it into this environment; if a built-in one is missing, reinstall cognomen",
            )
        if len(found) > 1:
            places = ", ".join(entry.value for entry in found)
            raise Refused(Kind.CONFLICT, f"{self.key}: expected 1 plugin {name}, found {len(found)}: {places}")
        return found[0]


def check_read(settings: Settings, chosen: Mapping[str, Collection[str]]) -> None:
    """Refuse settings that no chosen plugin reads: they would do nothing, and nobody would notice.

    Args:
        chosen: the plugins that the configuration chooses, by the key that chooses them.

    Raises:
        Refused: INVALID, naming the table.
    """
    for key, tables in settings.items():
        if key not in chosen:
            raise unknown_key(key, chosen, "plugins.")
        for name in tables:
            if name not in chosen[key]:
                names = " or ".join(chosen[key])
                raise Refused(
                    Kind.INVALID,
                    f"plugins.{key}.{printable(name)}: expected settings of {names}, found settings of a plugin that is not chosen",
                    hint=f"{key} chooses the plugins: name it there, or remove this table",
                )


def names_of(key: str, text: str) -> tuple[str, ...]:
    """Split names that are separated by commas.

    Raises:
        Refused: INVALID when a name is empty, or occurs twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise Refused(Kind.INVALID, f"{key}: expected names separated by commas, each once, found {text!r}")
    return names
