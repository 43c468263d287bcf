"""The resume copy: a function () -> () that continues at the site that its frame names.

Theory: :mod:`agents.rewrite.continuation` explains regions, landings, and why only reachable code is emitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agents.errors import UnsupportedFeature
from agents.rewrite.additions import END_INSTR, FRAME_LETTERS, frame_letters
from agents.rewrite.continuation import Continuation, Scratch, pieces_of, signature_of
from agents.rewrite.frames import FramePlan, Group, Site, call_unwinds
from agents.rewrite.liveness import ENTRY_SITE
from agents.rewrite.skeleton import BRANCHES, LOCALS, TAIL_CALLS, TERMINATORS, Construct
from agents.wasm import opcodes as op
from agents.wasm.syntax import I32, I64, Catch, Func, FuncType, Instr, RefType, ValType


@attrs.frozen
class _Landing:
    """A block of a region whose ``end`` is a place to land: a site, or the way into a nested region."""

    first: int  # sites [first, last] are reached through it
    last: int
    token: object


@attrs.frozen
class _SiteToken:
    """The label of a site's landing block."""

    number: int


class ResumeCopy:
    """One linear walk over the body; ``live`` says whether the emitted code can be reached here."""

    def __init__(self, parent: Continuation, plan: FramePlan, resume: int) -> None:
        self.parent, self.plan, self.resume = parent, plan, resume
        self.add = parent.additions
        self.instr = parent.additions.instr
        self.body = plan.func.body
        self.scratch = Scratch(plan, parent.additions)
        self.rp = self.scratch.local(I32, "resume point")
        self.out: list[Instr] = []
        self.labels: list[object] = []  # tokens of the open emitted blocks, outermost first
        self.place: dict[object, int] = {}  # token -> its place in `labels`
        self.opens: list[int] = []  # open original constructs, outermost first
        self.targeted: set[object] = set()
        self.live = False
        self.cursor = 0
        self.verbatim = 0  # how many constructs without sites are open
        self.sites = {site.position: site for site in plan.sites}
        self.regions = self._find_regions()
        # Regions that only lead to sites forget the resume point when they dispatch; where an exception may arrive
        # instead of a result, and where the way leads into a further region, it is needed after the dispatch.
        self.consuming = {index for index in self.regions if index and self._only_sites(index)}

    def _only_sites(self, index: int) -> bool:
        """Whether the region's landings are sites that expect a result."""
        landings = [landing for *_, landing in self.regions[index] if landing is not None]
        return all(isinstance(landing.token, _SiteToken) and not self._covered(landing.first) for landing in landings)

    def _covered(self, number: int) -> bool:
        return self.plan.sites[number - 1].covered

    def _in_loop(self, region: int) -> bool:
        """Whether the dispatch of ``region`` may run again."""
        constructs = self.plan.shape.constructs
        while region:
            if constructs[region].code == op.LOOP:
                return True
            region = constructs[region].parent
        return False

    # --- the whole -------------------------------------------------------------------------------------------

    def build(self) -> Func:
        plan = self.plan
        self._restore()
        self.out += self.parent.open_arms(plan)
        self.labels = [("arm", group.number) for group in reversed(plan.groups)]
        self.out.append(self.instr(op.BLOCK, self.add.blocktype(plan.functype.results)))
        self._push(0)
        self.opens.append(0)
        self._open_region(0)
        if ENTRY_SITE in self.sites:
            self._land(self.sites[ENTRY_SITE])
        self._walk()
        self._finish()
        locals_ = tuple(self.scratch.locals)
        for valtype in plan.functype.params:
            if isinstance(valtype, RefType) and not valtype.nullable:
                raise UnsupportedFeature(
                    "a parameter that is a non-null reference, in a function that may be suspended,",
                    plan.function,
                )
        return Func(self.add.functype((), ()), locals_, tuple(self.out))

    def _finish(self) -> None:
        results = self.plan.functype.results
        if self.live or 0 in self.targeted:
            if results:
                self.out.append(self.instr(op.CALL, self.parent.machinery.put(frame_letters(results))))
            self.out.append(self.instr(op.RETURN))
        else:
            self.out.append(self.instr(op.UNREACHABLE))
        self.out += self.parent.close_arms(self.plan, self.resume, ())
        self.out.append(END_INSTR)

    def _restore(self) -> None:
        """Restore the locals, the operands below and the results that the sites may need."""
        groups = self.plan.groups
        self.out += [self.instr(op.CALL, self.parent.machinery.site())]
        self.out += [self.instr(op.LOCAL_SET, self.rp)]
        if len(groups) > 1:
            self.out += [self.instr(op.BLOCK, None)] * (len(groups) + 1)
            arms = {site.number: group.number for group in groups for site in group.sites}
            self.out += self._choose([arms[site.number] for site in self.plan.sites], 1)
        for group in groups:
            if len(groups) > 1:
                self.out.append(END_INSTR)
            self.out += self._restore_group(group)
            if len(groups) > 1 and group is not groups[-1]:
                self.out.append(self.instr(op.BR, len(groups) - 1 - group.number))
        if len(groups) > 1:
            self.out.append(END_INSTR)
        for slot, valtype in sorted(
            {(slot, valtype) for site in self.plan.sites for slot, valtype in enumerate(site.results)},
            key=lambda item: (item[0], FRAME_LETTERS[item[1]]),
        ):
            take = self.parent.machinery.take(FRAME_LETTERS[valtype], slot)
            self.out += [self.instr(op.CALL, take)]
            self.out += [self.instr(op.LOCAL_SET, self.scratch.local(valtype, ("result", slot)))]

    def _restore_group(self, group: Group) -> list[Instr]:
        out: list[Instr] = []
        for number, (chunk, text, offset, extra) in enumerate(pieces_of(self.plan, group)):
            places = list(chunk)
            if number == 0:
                below = [
                    self.scratch.local(valtype, ("below", position)) for position, valtype in enumerate(group.below)
                ]
                places = below + places
                helper = self.parent.machinery.load(frame_letters(group.below) + text, extra)
            else:
                helper = self.parent.machinery.load_more(text, extra, offset)
            out.append(self.instr(op.CALL, helper))
            out += [self.instr(op.LOCAL_SET, place) for place in reversed(places)]
        return out

    # --- regions ---------------------------------------------------------------------------------------------

    def _region_of(self, index: int) -> int:
        """The innermost function body, loop or try_table around (or at) construct ``index``."""
        constructs = self.plan.shape.constructs
        while index and constructs[index].code not in (op.LOOP, op.TRY_TABLE):
            index = constructs[index].parent
        return index

    def _find_regions(self) -> dict[int, list[tuple[int, int, object, Sequence[ValType], _Landing | None]]]:
        """Per region the blocks that open at its head: (end, rank, token, results, landing)."""
        constructs = self.plan.shape.constructs
        regions: dict[int, list[tuple[int, int, object, Sequence[ValType], _Landing | None]]] = {}
        inside: dict[int, list[int]] = {}
        for site in self.plan.sites:
            index = site.construct.index
            while index:
                inside.setdefault(index, []).append(site.number)
                index = constructs[index].parent
            token: object = _SiteToken(site.number)
            landing = _Landing(site.number, site.number, token)
            regions.setdefault(self._region_of(site.construct.index), []).append((site.position, 1, token, (), landing))
        for index in self.plan.marked - {0}:
            construct = constructs[index]
            region = regions.setdefault(self._region_of(construct.parent), [])
            if construct.code in (op.LOOP, op.TRY_TABLE):
                token = ("enter", index)
                landing = _Landing(inside[index][0], inside[index][-1], token)
                region.append((construct.start, 0, token, (), landing))
            else:
                results = signature_of(self.plan, construct, self.add).results
                region.append((construct.end, 0, index, results, None))
                if construct.middle >= 0:
                    region.append((construct.middle, 0, ("else", index), (), None))
        for region in regions.values():
            region.sort(key=lambda item: (item[0], item[1]), reverse=True)
        return regions

    def _open_region(self, index: int) -> None:
        """Open the blocks of a region and dispatch; on an ordinary turn (``live``) fall into the body."""
        blocks = self.regions[index]
        for _, _, token, results, _ in blocks:
            self.out.append(self.instr(op.BLOCK, self.add.blocktype(results)))
            self._push(token)
        if self.live:
            self.out.append(self.instr(op.BLOCK, None))
            self.out += [self.instr(op.LOCAL_GET, self.rp), self.instr(op.I32_EQZ), self.instr(op.BR_IF, 0)]
            self._push("normal")
        landings = sorted((item[4] for item in blocks if item[4] is not None), key=lambda landing: landing.first)
        targets = [self._depth(landing.token) for landing in landings for _ in range(landing.first, landing.last + 1)]
        if index in self.consuming:
            clear = [self.instr(op.I32_CONST, 0), self.instr(op.LOCAL_SET, self.rp)]
            choose = self._choose(targets, landings[0].first)
            self.out += choose[:1] + clear + choose[1:] if len(choose) > 1 else clear + choose
        else:
            self.out += self._choose(targets, landings[0].first)
        if self.live:
            self._end()

    def _choose(self, targets: list[int], first: int) -> list[Instr]:
        """Branch to ``targets[rp - first]``."""
        if len(set(targets)) == 1:
            return [self.instr(op.BR, targets[0])]
        out = [self.instr(op.LOCAL_GET, self.rp)]
        if first < 4:
            targets = [targets[0]] * first + targets
        else:
            out += [self.instr(op.I32_CONST, first), self.instr(op.I32_SUB)]
        return [*out, self.instr(op.BR_TABLE, (tuple(targets[:-1]), targets[-1]))]

    # --- the walk --------------------------------------------------------------------------------------------

    def _walk(self) -> None:
        skip_to = -1
        shape = self.plan.shape
        for position in shape.events:
            instr = self.body[position]
            code = instr.code
            if code in LOCALS or position < skip_to:
                continue
            if code in (op.BLOCK, op.LOOP, op.IF, op.TRY_TABLE):
                index = shape.opened_at[position]
                if index in self.plan.marked:
                    self._flush(position)
                    self._open_marked(shape.constructs[index])
                    self.opens.append(index)
                elif self.live:
                    self._copy(position, self._remap(instr))
                    self._push(index)
                    self.opens.append(index)
                    self.verbatim += 1
                else:
                    skip_to = shape.constructs[index].end + 1
                    self.cursor = skip_to
            elif code == op.ELSE:
                construct = shape.elses[position]
                if construct.index in self.plan.marked:
                    self._flush(position)
                    self._else_marked(construct)
            elif code == op.END:
                construct = shape.ends[position]
                if construct.index in self.plan.marked:
                    self._flush(position)
                    self.opens.pop()
                    self._end_marked(construct)
                else:
                    self._copy(position, instr)
                    self.opens.pop()
                    self.verbatim -= 1
                    self._pop()
            elif position in self.sites:
                self._flush(position)
                self._call_site(self.sites[position], instr)
            elif self.live and (code in BRANCHES or code in TERMINATORS):
                self._leave(position, instr)

    def _flush(self, position: int) -> None:
        """Copy what lies between the last event and this one, unless it is dead; ``position`` itself is handled."""
        if self.live:
            self.out += self.body[self.cursor : position]
        self.cursor = position + 1

    def _copy(self, position: int, instr: Instr) -> None:
        self._flush(position)
        self.out.append(instr)

    def _leave(self, position: int, instr: Instr) -> None:
        """A branch or another instruction that ends the straight line."""
        self._flush(position)
        code = instr.code
        if code == op.RETURN:
            self.out.append(self._branch(op.BR, 0))
        elif code in TAIL_CALLS:
            self._tail_call(instr)
        else:
            self.out.append(self._remap(instr))
        if code in TERMINATORS and not self.verbatim:
            self.live = False

    def _tail_call(self, instr: Instr) -> None:
        """Tail-call a helper that makes the call: this copy's try_tables must not catch what the callee throws."""
        plain = {
            op.RETURN_CALL: op.CALL,
            op.RETURN_CALL_INDIRECT: op.CALL_INDIRECT,
            op.RETURN_CALL_REF: op.CALL_REF,
        }[instr.code]
        signature, callee = self._callee(plain, instr.imm)

        def build() -> tuple[Sequence[ValType], Sequence[Instr]]:
            params = [self.instr(op.LOCAL_GET, position) for position in range(len(signature.params) + len(callee))]
            body = [*params, self.instr(plain, instr.imm)]
            if call_unwinds(plain, instr.imm, self.parent.graph):
                # this function's frame is gone: pass the unwinding on
                body += [self.instr(op.GLOBAL_GET, self.parent.machinery.state), self.instr(op.IF, None)]
                body += [self.instr(op.RETURN), END_INSTR]
            if signature.results:
                body.append(self.instr(op.CALL, self.parent.machinery.put(frame_letters(signature.results))))
            return (), body

        where = ".".join(map(str, instr.imm if isinstance(instr.imm, tuple) else (instr.imm,)))
        helper = self.add.helper(
            f"portcall.tail.{plain}.{where}", (*signature.params, *callee), (), build, resumed=True
        )
        self.out.append(self.instr(op.RETURN_CALL, helper))

    def _callee(self, code: int, imm: object) -> tuple[FuncType, tuple[ValType, ...]]:
        """The signature of a call's callee, and the further operands that select the callee."""
        module = self.parent.module
        if code == op.CALL:
            assert isinstance(imm, int)
            return module.func_type(imm), ()
        if code == op.CALL_REF:
            assert isinstance(imm, int)
            return module.types[imm], (RefType(True, imm),)
        assert isinstance(imm, tuple)
        return module.types[imm[0]], (I64 if module.table_types[imm[1]].addr64 else I32,)

    # --- constructs that enclose sites -----------------------------------------------------------------------

    def _open_marked(self, construct: Construct) -> None:
        signature = signature_of(self.plan, construct, self.add)
        spills = self.plan.spills.get(construct.index, ())
        params = signature.params
        region = construct.code in (op.LOOP, op.TRY_TABLE)
        if self.live:
            condition = self.scratch.local(I32, "condition")
            if construct.code == op.IF:
                self.out.append(self.instr(op.LOCAL_SET, condition))
            self.out += self.scratch.set_all(params, "param")
            self.out += [self.instr(op.LOCAL_SET, place) for place in reversed(spills)]
            if construct.code == op.BLOCK:
                self.out += self.scratch.get_all(params, "param")
            elif construct.code == op.IF and construct.middle < 0:  # not taken, the parameters are the results
                self.out += self.scratch.get_all(params, "param")
                self.out += [self.instr(op.LOCAL_GET, condition), self.instr(op.I32_EQZ)]
                self.out.append(self._branch_to(op.BR_IF, construct.index))
            elif construct.code == op.IF:
                self.out += [self.instr(op.LOCAL_GET, condition), self.instr(op.I32_EQZ)]
                self.out.append(self._branch_to(op.BR_IF, ("else", construct.index)))
                self.out += self.scratch.get_all(params, "param")
        if region:
            self._enter_region(construct, params)

    def _enter_region(self, construct: Construct, params: Sequence[ValType]) -> None:
        for valtype in params:
            if isinstance(valtype, RefType) and not valtype.nullable:
                raise UnsupportedFeature(
                    "a non-null reference as the parameter of a loop or try_table that is resumed inside,",
                    self.plan.function,
                )
        if self.live:  # entered from above, a region must not dispatch
            self.out += [self.instr(op.I32_CONST, 0), self.instr(op.LOCAL_SET, self.rp)]
        self._end()  # the way in, from above and from the dispatch
        self.out += self.scratch.get_all(params, "param")
        opener = self.body[construct.start]
        self.out.append(self._remap(opener))
        self._push(construct.index)
        self.out += self.scratch.set_all(params, "param")
        self.live = self.live or construct.code == op.LOOP
        self._open_region(construct.index)
        poll = self.sites.get(construct.start)
        if poll is not None:
            self.out += self.scratch.get_all(params, "param")
            self.out += self.parent.question(poll, self._depth(0) + 1)
            self._settle(poll)
            self._land(poll)
        elif self.live:
            self.out += self.scratch.get_all(params, "param")

    def _else_marked(self, construct: Construct) -> None:
        if self.live:
            self.out.append(self._branch_to(op.BR, construct.index))
        self._end()
        self.live = ("else", construct.index) in self.targeted
        if self.live:
            self.out += self.scratch.get_all(signature_of(self.plan, construct, self.add).params, "param")
        else:
            self.out.append(self.instr(op.UNREACHABLE))

    def _end_marked(self, construct: Construct) -> None:
        self._end()
        if construct.code != op.LOOP:
            self.live = self.live or construct.index in self.targeted
        if construct.index == 0:
            return
        if not self.live:
            self.out.append(self.instr(op.UNREACHABLE))
            return
        spills = self.plan.spills.get(construct.index, ())
        if spills:
            results = signature_of(self.plan, construct, self.add).results
            self.out += self.scratch.set_all(results, "above")
            self.out += [self.instr(op.LOCAL_GET, place) for place in spills]
            self.out += self.scratch.get_all(results, "above")

    # --- sites -----------------------------------------------------------------------------------------------

    def _call_site(self, site: Site, instr: Instr) -> None:
        if self.live:
            self.out.append(instr)
            self.out += self.parent.question(site, self._depth(0) + 1)
            self._settle(site)
        self._land(site)

    def _settle(self, site: Site) -> None:
        """Store results and the operands below in the locals that a landing reads."""
        for slot, valtype in reversed(list(enumerate(site.results))):
            self.out.append(self.instr(op.LOCAL_SET, self.scratch.local(valtype, ("result", slot))))
        for position, valtype in reversed(list(enumerate(site.below))):
            self.out.append(self.instr(op.LOCAL_SET, self.scratch.local(valtype, ("below", position))))

    def _land(self, site: Site) -> None:
        self._end()
        region = self._region_of(site.construct.index)
        arrived = [self.instr(op.I32_CONST, 0), self.instr(op.LOCAL_SET, self.rp)]
        if site.covered:  # an exception may have come instead of a result
            self.out += [self.instr(op.LOCAL_GET, self.rp), self.instr(op.IF, None)]
            self.out += [*arrived, self.instr(op.CALL, self.parent.machinery.rethrow()), END_INSTR]
        elif region not in self.consuming and self._in_loop(region):
            self.out += arrived
        for position, valtype in enumerate(site.below):
            self.out += self.scratch.get(valtype, ("below", position))
        for slot, valtype in enumerate(site.results):
            self.out.append(self.instr(op.LOCAL_GET, self.scratch.local(valtype, ("result", slot))))
        self.live = True

    # --- labels ----------------------------------------------------------------------------------------------

    def _push(self, token: object) -> None:
        self.place[token] = len(self.labels)
        self.labels.append(token)

    def _pop(self) -> None:
        self.labels.pop()

    def _end(self) -> None:
        self.out.append(END_INSTR)
        self._pop()

    def _depth(self, token: object) -> int:
        return len(self.labels) - 1 - self.place[token]

    def _branch_to(self, code: int, token: object) -> Instr:
        self.targeted.add(token)
        return self.instr(code, self._depth(token))

    def _branch(self, code: int, construct: int) -> Instr:
        return self._branch_to(code, construct)

    def _label(self, label: int) -> int:
        """The emitted depth of an original label."""
        index = self.opens[-1 - label]
        self.targeted.add(index)
        return self._depth(index)

    def _remap(self, instr: Instr) -> Instr:
        """The instruction with its labels adjusted to this copy."""
        code = instr.code
        if code == op.BR_TABLE:
            targets, default = instr.imm
            return Instr(code, (tuple(self._label(target) for target in targets), self._label(default)))
        if code == op.TRY_TABLE:
            blocktype, catches = instr.imm
            moved = tuple(Catch(catch.kind, catch.tag, self._label(catch.label)) for catch in catches)
            return Instr(code, (blocktype, moved))
        if code in BRANCHES:
            assert isinstance(instr.imm, int)
            return self.instr(code, self._label(instr.imm))
        return instr
