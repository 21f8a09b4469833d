"""The program `cognomen`, also `python -m cognomen`: while it is being loaded, Ctrl-C ends it without a traceback."""

import signal

__all__ = ["main"]


def main() -> None:
    """Load the program and run it; if SIGINT is ignored, as in a shell's background, it stays ignored."""
    is_heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from cognomen.cli.main import main as run  # noqa: PLC0415 - this is what takes time

    if is_heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
