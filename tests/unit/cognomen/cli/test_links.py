"""cognomen/cli/links: which paths in selectors are links on this machine."""

from pathlib import Path

from cognomen.cli.links import links_of
from cognomen.protocol.selector import Selector


def test_a_path_that_is_a_link_or_leads_through_one_is_told_with_its_end(tmp_path: Path) -> None:
    real = tmp_path.resolve() / "usr" / "python3.11"
    real.parent.mkdir()
    real.touch()
    (real.parent / "python").symlink_to("python3.11")
    (real.parents[1] / "bin").symlink_to("usr")
    (real.parent / "loop").symlink_to("loop")
    link, through = real.parent / "python", real.parents[1] / "bin" / "python3.11"
    paths = (real, link, through, real.parent / "loop", real.parent / "none")
    asked = [Selector("unix", f"path:{path}") for path in paths]
    asked += [Selector("unix", f"user:{link}"), Selector("docker", f"path:{link}")]
    assert links_of(asked) == {str(link): str(real), str(through): str(real)}
