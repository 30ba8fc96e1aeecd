"""Who sleeps deeper where not all backups fit into host RAM."""

from pathlib import Path

from sleepd.config.load import PACKAGED_DIR
from sleepd.replay.stage import set_stage
from sleepd.tuning.levels import choose_levels
from tests.replay.replays import host_of

GPU = '[[gpus]]\nmemory = "80GiB"\n[models.c]\nbackup = "8GiB"\n'
"""Two backups of 16 GiB and one of 8; 8 GiB of host RAM are kept free."""


def levels_of(tmp_path: Path, ram: str, wakes: dict[str, int]) -> dict[str, int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "sleepd.toml").write_text("[model_defaults]\nmax_level = 2\n")
    host = host_of(tmp_path, f'[host]\nram = "{ram}"\nused = "0B"\n{GPU}')
    settings = set_stage(tmp_path / "etc", host, wakes, shipped_dir=PACKAGED_DIR).settings
    return choose_levels(settings, host, wakes)


def test_those_go_deeper_that_lose_least_by_it_for_each_byte(tmp_path: Path) -> None:
    """b is woken least, and its backup is twice that of c."""
    assert levels_of(tmp_path, "40GiB", {"a": 10, "b": 3, "c": 2}) == {"a": 1, "b": 2, "c": 1}


def test_no_more_of_them_than_must(tmp_path: Path) -> None:
    assert levels_of(tmp_path, "48GiB", {"a": 10, "b": 3, "c": 2}) == {"a": 1, "b": 1, "c": 1}
