"""The launchers by name. Each is a module with one function, `launch(plan) -> exit status`; only
the one that is asked for is imported."""

from importlib import import_module

from .plan import Plan

LAUNCHERS = {
    "local": "all roles on this machine, as `dualshard train`",
    "ssh": "the hosts of --hostfile, by ssh",
    "slurm": "a Slurm cluster",
    "kubernetes": "a Kubernetes cluster",
}
"""What each launcher starts roles on; its module has its name."""


def launch(name: str, plan: Plan) -> int:
    """Start a plan's roles, and watch them to their end; the exit status.

    Raises:
        UserError: the plan cannot be carried out.
        RoleError: the job did not complete.
    """
    module = import_module(f".{name}", __package__)
    status: int = module.launch(plan)
    return status
