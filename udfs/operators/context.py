"""What an operator knows of where it runs."""

from __future__ import annotations

from pyflink.datastream import RuntimeContext


def instance_number(context: RuntimeContext) -> int:
    """Which of the parallel instances this is, from 0.

    ``get_index_of_this_subtask`` of PyFlink 2.3 in thread mode calls a Java method that is gone (FLIP-382 moved it to
    TaskInfo).
    """
    try:
        return int(context.get_index_of_this_subtask())
    except AttributeError:
        return int(context._runtime_context.getTaskInfo().getIndexOfThisSubtask())
