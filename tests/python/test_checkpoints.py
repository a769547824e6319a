"""Checkpoints of ranks in threads: all shards of a step, or none."""

import os
import threading

import pytest

import epoch

from conftest import LONG


def write(rank, number, text):
    with rank.begin(number, timeout=LONG) as step:
        assert step.number == number and step.path("model.bin").startswith(step.directory)
        with open(step.path("model.bin"), "w") as shard:
            shard.write(text)
        step.ready("model.bin")
        step.set_metadata(text.encode())
        return step.commit(timeout=LONG)


def test_two_ranks_make_a_checkpoint(folder):
    run = os.path.join(folder, "run")
    made = []

    def work(number):
        with epoch.Rank(run, rank=number, world=2) as rank:
            made.append(write(rank, 1200, f"rank {number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2 and made[0] == made[1]
    with epoch.checkpoints(run).open_latest() as latest:
        assert (latest.info.step, latest.info.world, latest.info.files) == (1200, 2, 2)
        for number in range(2):
            with open(latest.path(number, "model.bin")) as shard:
                assert shard.read() == f"rank {number}"
            assert latest.metadata(number) == f"rank {number}".encode()
        assert [(one.rank, one.name, one.size) for one in latest.shards] == [
            (0, "model.bin", 6),
            (1, "model.bin", 6),
        ]
        with pytest.raises(epoch.NotFound):
            latest.path(2, "model.bin")


def test_damage_is_found_and_passed_over(folder):
    run = os.path.join(folder, "run")
    with epoch.Rank(run, rank=0, world=1) as rank:
        assert rank.region_path
        for number in (1, 2, 3):
            write(rank, number, f"step {number}")
        with rank.begin(4) as step:
            for name in ("a", "b"):
                with open(step.path(name), "w") as shard:
                    shard.write(name)
            step.ready()
            step.commit()
        abandoned = rank.begin(5)
        abandoned.close()
    all_of_them = epoch.checkpoints(run)
    assert [one.step for one in all_of_them.list().checkpoints] == [1, 2, 3, 4]
    latest = all_of_them.open_latest()
    assert latest.info.files == 2
    with open(latest.path(0, "a"), "w") as shard:
        shard.write("A")
    latest.close()
    with pytest.raises(epoch.DataLoss):
        all_of_them.open_latest()
    assert len(all_of_them.verify(4)) == 1 and all_of_them.verify(3) == []
    good, passed_over, problems = all_of_them.open_newest_good()
    assert good.info.step == 3 and [one.step for one in passed_over] == [4] and problems
    assert all_of_them.open_step(1).info.step == 1
    dry = all_of_them.prune(keep=1, dry_run=True)
    assert [one.step for one in dry.kept] == [3]
    pruned = all_of_them.prune(keep=1)
    assert [one.step for one in pruned.in_use] == [] or good
    assert isinstance(all_of_them.clean_up(), list)
    with pytest.raises(epoch.Invalid):
        all_of_them.prune(keep=0)
    with pytest.raises(epoch.NotFound):
        epoch.checkpoints(os.path.join(folder, "none")).open_latest()
    assert "run" in repr(all_of_them)


def test_a_rank_is_there_once(folder):
    run = os.path.join(folder, "run")
    with epoch.Rank(run, rank=0, world=1) as rank:
        with pytest.raises(epoch.Exists):
            epoch.Rank(run, rank=0, world=1)
        with pytest.raises(TypeError):
            epoch.Rank(run)
        assert rank


def test_paths_stay_when_their_objects_are_closed(folder):
    rank = epoch.Rank(os.path.join(folder, "run"), rank=0, world=1)
    step = rank.begin(1)
    paths = rank.region_path, step.directory
    step.close()
    rank.close()
    assert (rank.region_path, step.directory) == paths and all(paths)
