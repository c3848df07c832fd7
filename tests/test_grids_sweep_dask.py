"""The same sweep on a real Dask cluster: two worker processes, one of them killed in mid-run."""

import os
import signal
import time

import pytest
from distributed import Client, LocalCluster
from outcomes import all_well

from rlhf_lab.grids.sweep import Outcome, grid, read_outcomes, sweep


def slowly(configs):
    time.sleep(0.3)
    return all_well(configs)


@pytest.fixture
def client(tmp_path):
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            local_directory=str(tmp_path),
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(client, tmp_path):
    configs = grid([0.0, 0.3], [0.0], range(6))
    file = tmp_path / "results.csv"
    results = sweep(configs, file, executor=client.get_executor(), run=slowly)
    outcomes = [next(results)]
    victim = next(iter(client.run(os.getpid).values()))
    os.kill(victim, signal.SIGKILL)
    outcomes += results
    assert all(isinstance(outcome, Outcome) for outcome in outcomes)
    assert {o.config for o in read_outcomes(file)} == set(configs)
    assert len(read_outcomes(file)) == len(configs)
    assert victim not in client.run(os.getpid).values()
