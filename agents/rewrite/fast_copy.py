"""The fast copy: the original body with a question after each call that may unwind.

The theory is in :mod:`agents.rewrite.continuation`.
"""

from __future__ import annotations

from agents.rewrite.additions import END_INSTR
from agents.rewrite.continuation import Continuation, Scratch, operands_taken
from agents.rewrite.frames import FramePlan
from agents.rewrite.liveness import ENTRY_SITE
from agents.rewrite.skeleton import Construct
from agents.wasm import opcodes as op
from agents.wasm.syntax import Func, Instr


class FastCopy:
    """The original body, copied in slices between the sites."""

    def __init__(self, parent: Continuation, plan: FramePlan, resume: int) -> None:
        self.parent, self.plan, self.resume = parent, plan, resume
        self.scratch = Scratch(plan, parent.additions)

    def build(self) -> Func:
        plan, parent = self.plan, self.parent
        body = plan.func.body
        out = parent.open_arms(plan)
        inner = 0
        if plan.shape.label_used:  # keep the function's own label, so that no branch in the body changes
            out.append(parent.additions.instr(op.BLOCK, parent.additions.blocktype(plan.functype.results)))
            inner = 1
        spilled = {plan.shape.constructs[index].start: index for index in plan.spills}
        sites = {site.position: site for site in plan.sites}
        if ENTRY_SITE in sites:
            out += parent.question(sites[ENTRY_SITE], inner)
        cursor = 0
        for position in sorted({*spilled, *sites} - {ENTRY_SITE}):
            out += body[cursor:position]
            if position in spilled:
                out += self._spill(plan.shape.constructs[spilled[position]])
            out.append(body[position])
            site = sites.get(position)
            if site is not None:
                out += parent.question(site, site.construct.depth + inner)
            cursor = position + 1
        out += body[cursor:] if inner else body[cursor:-1]
        out.append(parent.additions.instr(op.RETURN))
        out += parent.close_arms(plan, self.resume, plan.functype.results)
        out.append(END_INSTR)
        return Func(plan.func.type, tuple(self.scratch.locals[len(plan.functype.params) :]), tuple(out))

    def _spill(self, construct: Construct) -> list[Instr]:
        """Copy the operands below a construct into their spill locals, and leave the stack as it was."""
        instr = self.parent.additions.instr
        above = operands_taken(self.plan, construct, self.parent.additions)
        places = self.plan.spills[construct.index]
        out = self.scratch.set_all(above, "above")
        out += [instr(op.LOCAL_SET, place) for place in reversed(places)]
        out += [instr(op.LOCAL_GET, place) for place in places]
        return out + self.scratch.get_all(above, "above")
