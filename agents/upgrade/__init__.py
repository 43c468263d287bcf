"""New code for a frozen agent: its state, continued with another module.

    plan = agents.upgrade.plan(old, new, snapshot)     # what maps, and what does not, by name
    later = agents.upgrade.upgraded(old, new, snapshot)  # the snapshot of the new image; raises CannotUpgrade

The theory is in docs/topics/upgrades.md. `modules` compares code, `layout` looks for data that moved, `state` maps
memories, tables and globals; `planning` maps the stack and puts all together. Nothing is run, and nothing is known here
of who may upgrade an agent.

Invariants: the snapshot that comes out passes `Snapshot.check` for the new image, or there is none; both modules are
read only; what is not understood is refused.
"""

from agents.upgrade.planning import FramePlan, Plan, mapped, plan, upgraded

__all__ = ["FramePlan", "Plan", "mapped", "plan", "upgraded"]
