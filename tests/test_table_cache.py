"""Exact tables on disk: the same numbers, whole or not at all, and never in anybody's way."""

import dataclasses
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from rlhf_lab import files, language, table_cache
from rlhf_lab import world as world_module
from rlhf_lab.table_cache import KEPT, SOURCES, cached, file_of, folder, read
from rlhf_lab.world import World, WorldTables, keep_tables, load_world

PACKAGE = Path(table_cache.__file__).parent
SMALL = {"tree.0": torch.arange(6).double().view(2, 3) / 7, "golds": torch.tensor([-0.0, 1e-300])}
SMALL = {name: table.double() for name, table in SMALL.items()}


def bits(named) -> dict[str, list[int]]:
    """All numbers as integers: NaN equals itself, and −0 is not 0."""
    return {name: table.view(torch.int64).tolist() for name, table in named.items()}


def compute() -> dict[str, torch.Tensor]:
    return {name: table.clone() for name, table in SMALL.items()}


def refuse() -> dict[str, torch.Tensor]:
    pytest.fail("computed what is on disk")


def unread_world() -> World:
    """The world that ships, as a new process finds it: without tables in memory."""
    return dataclasses.replace(load_world())


@pytest.fixture
def path(tmp_path) -> Path:
    """A file with the small tables."""
    path = tmp_path / "new" / "rlhf_lab-tables-food-0.safetensors"
    cached(path, compute)
    return path


@pytest.fixture(scope="module")
def plain() -> WorldTables:
    """One prompt's tables as any other world computes them, without the disk."""
    return load_world().to(torch.device("cpu"), torch.float32).tables("staff")


def test_tables_from_disk_are_the_computed_ones_bit_for_bit(monkeypatch, tmp_path, plain):
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path))
    made = unread_world().tables("staff")
    assert [path.name.split("-")[:3] for path in tmp_path.iterdir()] == [
        ["rlhf_lab", "tables", "staff"]
    ]
    monkeypatch.setattr(World, "_computed", lambda *_: refuse())
    mapped = unread_world().tables("staff")
    for tables in (made, mapped):
        for ours, theirs in zip(
            [*tables.tree, *tables[1:]], [*plain.tree, *plain[1:]], strict=True
        ):
            assert ours.dtype == torch.float64
            assert torch.equal(ours.view(torch.int64), theirs.view(torch.int64))


def test_a_file_is_computed_once_and_then_read(path):
    assert bits(cached(path, refuse)) == bits(SMALL)
    assert [*path.parent.iterdir()] == [path]


def test_every_flipped_bit_is_noticed_or_changes_no_number(path):
    whole, harmless = path.read_bytes(), 0
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            found = read(path)
            assert found is None or bits(found) == bits(SMALL), (place, bit)
            harmless += found is not None
    assert harmless < 0.1 * 8 * len(whole), "of the spaces that fill up the header, say"


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: whole[:5],
        lambda whole: whole[:60],
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: bytes(len(whole)),
        lambda whole: b"\xff" * len(whole),
        lambda whole: save(compute()),
        lambda whole: save(compute(), metadata={"checksum": "0" * 64}),
        lambda whole: save({name: table.float() for name, table in SMALL.items()}),
        lambda whole: save({name: table.bfloat16() for name, table in SMALL.items()}),
        lambda whole: save({}),
    ],
)
def test_a_damaged_file_is_made_anew(path, damage):
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert read(path) is None
    assert bits(cached(path, compute)) == bits(SMALL)
    assert path.read_bytes() == whole


def test_a_folder_in_the_place_of_the_file_is_left_alone(path):
    path.unlink()
    path.mkdir()
    assert bits(cached(path, compute)) == bits(SMALL)
    assert path.is_dir()
    assert [*path.parent.iterdir()] == [path]


def test_what_a_student_writes_into_a_table_stays_in_her_process(path):
    whole, other = path.read_bytes(), read(path)
    mine = read(path)
    for table in mine.values():
        table.add_(1).mul_(100)
    assert bits(mine) != bits(SMALL)
    assert bits(other) == bits(read(path)) == bits(SMALL)
    assert path.read_bytes() == whole


def test_processes_that_start_at_once_all_get_the_numbers_and_leave_one_file(tmp_path):
    code = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_table_cache as t
def slowly():
    time.sleep(0.3)
    return t.compute()
here = Path({str(tmp_path)!r})
(here / sys.argv[1]).touch()
while not all((here / n).exists() for n in "ab"):
    time.sleep(0.001)
for n in range(20):
    got = t.cached(here / "kept" / f"{{n}}.safetensors", slowly if n == 0 else t.compute)
    assert t.bits(got) == t.bits(t.SMALL)
"""
    runs = [subprocess.Popen([sys.executable, "-c", code, name]) for name in "ab"]
    assert [run.wait(timeout=60) for run in runs] == [0, 0]
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == sorted(f"{n}.safetensors" for n in range(20))


def test_a_slower_process_leaves_the_file_of_the_faster_one(tmp_path):
    """It may be mapped, and on some network file systems a mapped file must not be replaced."""
    path = tmp_path / "f.safetensors"

    def overtaken() -> dict[str, torch.Tensor]:
        cached(path, compute)
        overtaken.file = path.stat().st_ino
        return compute()

    assert bits(cached(path, overtaken)) == bits(SMALL)
    assert path.stat().st_ino == overtaken.file


def test_without_a_place_to_write_the_numbers_are_computed(tmp_path):
    (tmp_path / "file").touch()
    assert bits(cached(tmp_path / "file" / "deep" / "f.safetensors", compute)) == bits(SMALL)
    assert bits(cached(None, compute)) == bits(SMALL)
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]


def test_a_read_only_folder_is_read_and_not_written(path):
    path.parent.chmod(0o500)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("root, or Windows")
        assert bits(cached(path, refuse)) == bits(SMALL)
        assert bits(cached(path.with_name("new.safetensors"), compute)) == bits(SMALL)
        assert [*path.parent.iterdir()] == [path]
    finally:
        path.parent.chmod(0o700)


def test_a_file_of_somebody_else_is_read(path, monkeypatch):
    def denied(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", denied)
    assert bits(cached(path, refuse)) == bits(SMALL)


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path):
    import resource

    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, usual[1]))  # the write itself fails half way
    try:
        assert bits(cached(tmp_path / "f.safetensors", compute)) == bits(SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_disk_that_is_full_at_the_end_leaves_nothing_behind(tmp_path, monkeypatch, broken):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, broken, full)
    assert bits(cached(tmp_path / "f.safetensors", compute)) == bits(SMALL)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("system", "variables", "place"),
    [
        ("linux", {}, "home/.cache/rlhf_lab"),
        ("linux", {"XDG_CACHE_HOME": "{}/xdg"}, "xdg/rlhf_lab"),
        ("linux", {"XDG_CACHE_HOME": ""}, "home/.cache/rlhf_lab"),
        ("linux", {"XDG_CACHE_HOME": "relative/xdg"}, "home/.cache/rlhf_lab"),
        ("linux", {"LOCALAPPDATA": "{}/local"}, "home/.cache/rlhf_lab"),
        ("darwin", {"XDG_CACHE_HOME": "{}/xdg"}, "home/Library/Caches/rlhf_lab"),
        ("win32", {"LOCALAPPDATA": "{}/local"}, "local/rlhf_lab"),
        ("win32", {}, "home/AppData/Local/rlhf_lab"),
        ("linux", {"RLHF_LAB_CACHE": "{}/class", "XDG_CACHE_HOME": "{}/xdg"}, "class"),
        ("win32", {"RLHF_LAB_CACHE": "{}/class", "LOCALAPPDATA": "{}/local"}, "class"),
        ("linux", {"RLHF_LAB_CACHE": "~/class"}, "home/class"),
        ("linux", {"RLHF_LAB_CACHE": ""}, None),
        ("linux", {"RLHF_LAB_CACHE": "~nobody-of-this-name/x"}, None),
    ],
)
def test_where_the_files_are(monkeypatch, tmp_path, system, variables, place):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "RLHF_LAB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    monkeypatch.setattr(table_cache.sys, "platform", system)
    assert folder() == (tmp_path / place if place else None)


def test_without_a_home_there_is_no_place(monkeypatch):
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("RLHF_LAB_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    assert folder() is None
    assert file_of("food", {}) is None


def test_no_test_writes_into_the_home_of_whoever_runs_it():
    """conftest.py sets the folder, for all processes that tests start as well."""
    assert folder().is_relative_to(tempfile.gettempdir())


def test_the_name_changes_with_all_that_determines_the_numbers(monkeypatch):
    world = load_world().to(torch.device("cpu"), torch.float32)
    names = [world._file(prompt) for prompt in language.PROMPTS]

    def changed(owner: object, attribute: str, value: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(owner, attribute, value)
            names.append(world._file("food"))

    changed(torch, "__version__", "2.99.0")
    changed(torch.backends.cpu, "get_cpu_capability", lambda: "Z80")
    changed(torch, "get_num_threads", lambda: 3)
    changed(torch, "get_float32_matmul_precision", lambda: "medium")
    changed(table_cache.sysconfig, "get_platform", lambda: "tos-m68k")
    changed(table_cache.sys, "byteorder", "middle")
    for module in SOURCES:
        real = Path.read_bytes
        new = lambda path, m=module, r=real: r(path) + b"#" * (path.name == f"{m}.py")  # noqa: E731
        changed(Path, "read_bytes", new)
    for model in (world.sft, world.reward_trunk, world.reward_head):
        for weight in model.parameters():
            flat = weight.view(-1)
            before = flat[-1].item()
            flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
            names.append(world._file("food"))
            flat[-1] = before
    assert len({*names}) == len(names) > 50
    assert world._file("food") == names[0]


def test_without_the_source_nothing_is_kept(monkeypatch):
    def missing(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", missing)
    assert load_world()._file("food") is None


def test_the_hash_covers_every_module_that_runs(monkeypatch, tmp_path):
    """Else a change of one that was forgotten would leave the old numbers in use."""
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path))
    world, ran = unread_world(), set()
    sys.setprofile(lambda frame, *_: ran.add(frame.f_code.co_filename))
    try:
        world.tables("food")
    finally:
        sys.setprofile(None)
    ours = {Path(name).stem for name in ran if Path(name).parent == PACKAGE}
    assert ours - {"files"} == {*SOURCES}


def test_only_the_world_that_ships_goes_to_the_disk(monkeypatch):
    shipped = unread_world()
    others = [
        shipped.to(torch.device("cpu"), torch.float64),
        world_module.read_world(PACKAGE / "weights"),
    ]
    monkeypatch.setattr(World, "_computed", lambda *_: WorldTables([torch.zeros(1)] * 5, *"abc"))
    monkeypatch.setattr(table_cache, "file_of", lambda *_: pytest.fail("asked for a file"))
    assert [world.tables("food").golds for world in others] == ["c", "c"]
    with pytest.raises(pytest.fail.Exception):
        shipped.tables("food")


def test_a_word_that_is_no_prompt_makes_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match="is not a prompt"):
        unread_world().tables("../weather")
    with pytest.raises(ValueError, match="is not a prompt"):
        load_world()._file("../weather")
    assert [*tmp_path.iterdir()] == []


def test_only_the_files_used_last_stay(tmp_path):
    """And nothing else that lies in the folder, which a teacher may have named, is touched."""
    theirs = [tmp_path / name for name in ("thesis.safetensors", "tables-of-mine.csv", ".x.tmp")]
    half = tmp_path / ".rlhf_lab-tables-food-0123.ab12.tmp"  # its writer was killed
    for file in (*theirs, half):
        file.touch()
        os.utime(file, (1, 1))
    paths = [tmp_path / f"rlhf_lab-tables-food-{n:02}.safetensors" for n in range(KEPT + 4)]
    now = time.time()
    for n, path in enumerate(paths[:-1]):
        path.write_bytes(save(compute(), metadata={"checksum": table_cache._checksum(SMALL)}))
        os.utime(path, (now - 1000 + n,) * 2)
    assert read(paths[0]) is not None  # the oldest is used again
    cached(paths[-1], compute)
    assert {*tmp_path.iterdir()} == {*theirs, paths[0], *paths[-KEPT + 1 :]}


def test_keep_tables_says_whether_they_are_there(monkeypatch, tmp_path):
    assert keep_tables()
    assert {path.suffix for path in folder().iterdir()} == {".safetensors"}
    small = WorldTables([torch.zeros(1).double()] * 5, *torch.zeros(3, 2).double())
    monkeypatch.setattr(World, "_computed", lambda *_: small)
    monkeypatch.setenv("RLHF_LAB_CACHE", "")
    assert not keep_tables()
    (tmp_path / "file").touch()
    monkeypatch.setenv("RLHF_LAB_CACHE", str(tmp_path / "file"))
    assert not keep_tables()


@pytest.fixture
def second_kernel():
    """second_kernel(code) runs it in a new process with the tables on disk; gives its number."""
    keep_tables()

    def run(code: str) -> int:
        code = f"from rlhf_lab import exact, load_world; world = load_world()\n{code}"
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return int(said.stdout)

    return run


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="asks Linux")
def test_a_second_kernel_needs_no_memory_of_its_own_for_the_tables(second_kernel):
    code = """
import re
def own(): return int(re.search(r"Anonymous: +(\\d+)", open("/proc/self/smaps_rollup").read())[1])
before = own()
for prompt in ("food", "staff"):
    tables = world.tables(prompt)
    sum(table.sum() for table in [*tables.tree, *tables[1:]])
print(own() - before)
"""
    assert second_kernel(code) < 5_000, "kB"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's malloc")
def test_large_tensors_reuse_memory_though_no_table_has_been_computed(second_kernel):
    """Computing them taught malloc to do so; a process that maps them has to be taught."""
    code = """
import resource
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
tables = world.tables("food")
for n in range(12):
    if n == 2:
        before = faults()
    exact.optimum(tables.ref_logprobs, tables.scores, 0.3, 0.1)
print((faults() - before) // 10)
"""
    assert second_kernel(code) < 1_000, "pages of 4 kB, of 7,000 in its tensors"
