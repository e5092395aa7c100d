"""Parallel operators of one process make their kernels at the same moment."""

import sys
import threading

from udfs.kernel.compiler import FeatureConfig, Kernel


def test_two_threads_get_a_whole_kernel() -> None:
    config = FeatureConfig(families=("rsi",), parameters={"rsi": {"period": 9}})
    first = Kernel(config)._module.__name__
    for _ in range(20):
        sys.modules.pop(first)
        made: list[object] = []
        start = threading.Barrier(4)

        def make(start=start, made=made) -> None:
            start.wait()
            made.append(Kernel(config)._run)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 4
        assert len(set(map(id, made))) == 1
