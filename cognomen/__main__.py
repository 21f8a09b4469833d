"""The program `cognomen`, also `python -m cognomen`: while it is being loaded, Ctrl-C ends it without a traceback."""

from cognomen.cli.signals import ctrl_c_ends_at_once

__all__ = ["main"]


def main() -> None:
    """Load the program and run it."""
    with ctrl_c_ends_at_once():
        from cognomen.cli.main import main as run  # noqa: PLC0415 - this is what takes time
    run()


if __name__ == "__main__":
    main()
