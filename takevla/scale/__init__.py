"""Many independent jobs: in this process, on local processes, on a Ray cluster.

An executor gives a crew of workers that hold one function; the crew takes a list of jobs and their names, and
gives back one result per job, in the order of the jobs, whatever order they finished in.  The function must
be importable (module level), a job and its result picklable.  Every job runs with one thread of BLAS, OpenMP
and torch, so that its floats are the same in one process and in eight.
"""

from takevla.scale.bar import Bar
from takevla.scale.executors import RayCluster, executor, ray_cluster
from takevla.scale.job import Crew, Executor, Function, JobFailure, Listener, Report, Silent, groups
from takevla.scale.launched import Launched, Processes, processes
from takevla.scale.local import InProcess, LocalProcesses
from takevla.scale.memory import keep_freed_memory
from takevla.scale.threads import one_thread

__all__ = [
    "Bar",
    "Crew",
    "Executor",
    "Function",
    "InProcess",
    "JobFailure",
    "Launched",
    "Listener",
    "LocalProcesses",
    "Processes",
    "RayCluster",
    "Report",
    "Silent",
    "executor",
    "groups",
    "keep_freed_memory",
    "one_thread",
    "processes",
    "ray_cluster",
]
