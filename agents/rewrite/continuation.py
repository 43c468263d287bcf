"""The pass: from one function to its two copies. This is how a call stack becomes data.

What must hold. While nothing suspends, the program runs at nearly its original speed. When a call returns with the
state "unwinding", every function on the stack saves what it needs and returns, innermost first, until the export that
the host called has returned. A fresh instance continues from that data, and the program cannot tell.

**The fast copy** is the original body, with one question after each call that may unwind::

    call $g
    i32.const SITE        ;; only where several sites share an arm
    global.get $state     ;; 0 running, 1 unwinding
    br_if $save_k         ;; carries the operands that lie below the call, its (meaningless) results, and SITE
    drop                  ;; the SITE

and, around the whole body, one block per *group* of sites that save the same values, with its arm behind it::

    block $leave
      block $save_1 (result ..)
        block $save_0 (result BELOW.. RES.. i32)
          block (result R..)     ;; the old function label, where a branch of the body uses it: so none changes
            ..body..
          end
          return
        end
        local.get LIVE..         ;; the locals that the resumed code may still read
        i32.const FUNCTION
        call $save_helper        ;; pushes the frame
        br $leave
      end
      ..
    end
    ..zeros of R..

A question costs a load, a compare and a branch that is not taken; the arms are out of line (docs/adr/arms-by-branch). A
call whose results are only returned has no question and no frame: its function returns in any case, and would later
only pass them on (docs/adr/no-frame-for-a-last-call). A poll, at a loop head or at the function's entry, is the same
with the poll flag in place of ``$state``: it never continues a call, it only leaves the function. Operands below an
enclosing construct, which the innermost block cannot reach, are spilled to locals before the construct (free in
compilers that number values).

**The resume copy** ``f_r: () -> ()`` is cold. It restores a frame and continues *just after* the call of its site:
the parameters are plain locals now, the call's result comes from the transfer area, and the function's own result
goes there. Nothing is called twice and nothing before the site runs again. It is cut into *regions*: the function
body, each ``loop`` and each ``try_table`` that encloses a site. A plain ``block`` or ``if`` that encloses a site can be
widened backward to the head of its region, since only its end matters to branches; so do the landing blocks of the
region's sites. They nest by where they end, later ends outside::

    loop                       ;; a region
      block $c                 ;; was opened further down, just before site 2
        block $site2
          block $site1
            block $normal
              local.get $rp  i32.eqz  br_if $normal       ;; an ordinary turn of the loop
              ..br_table $rp: $site1, $site2..
            end
            ..code up to the call of site 1, the call, its question..
            local.set $result
          end                  ;; site 1: $result and $below are set, from the dispatch or from above
          local.get $below..  local.get $result..
          ..code to the call of site 2..
        end
        ..
      end
      ..

Only reachable code is emitted: what lies before a function's first site, outside loops, is not in the resume copy.
An ``if`` with sites inside becomes two blocks and a ``br_if``, so its condition is not evaluated again. Operands below
a construct stay in their spill locals until its end, so every landing finds an empty operand stack.

**The driver** (:mod:`agents.rewrite.machinery`) pops the innermost frame, calls its resume copy, and goes on with the
next. If one unwinds again, its new frames come before those that still wait. An exception that leaves an inner frame
is caught by the driver and thrown again at the site of the next frame that a ``try_table`` covers.

Resume copies and driver are in a module of their own (:mod:`agents.rewrite.resume_module`), but all this happens in
one index space: that module is cut out at the end.

Calls in a resume copy go to fast copies. A tail call leaves no frame: in a fast copy it stays as it is, in a resume
copy it becomes a tail call of a helper that calls, passes an unwinding on, and leaves the results where the driver
looks for them; so it is outside the copy's try_tables, which must not catch what the callee throws.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from agents.rewrite.additions import END_INSTR, FRAME_LETTERS, Additions, frame_letters
from agents.rewrite.callgraph import CallGraph
from agents.rewrite.frames import FramePlan, Group, Site
from agents.rewrite.machinery import HEADER_BYTES, Machinery, frame_width
from agents.rewrite.skeleton import Construct
from agents.wasm import opcodes as op
from agents.wasm.syntax import I32, FuncType, Instr, Module, RefType, ValType

#: Values that one helper takes. More make arms longer, since engines pass few values in registers, and make more types
#: of helpers, each of which engines compile code for (docs/adr/frames-hold-what-is-live).
HELPER_VALUES = 4


@attrs.define
class Continuation:
    """The parts that both copies of a function share: the questions and the save arms.

    ``resume`` in the methods is the function's resume index.
    """

    module: Module
    graph: CallGraph
    additions: Additions
    machinery: Machinery

    def open_arms(self, plan: FramePlan) -> list[Instr]:
        """The blocks around the body, outermost first; group 0 is innermost, just outside the result block."""
        instr = self.additions.instr
        leave = [instr(op.BLOCK, None)] if len(plan.groups) > 1 else []
        return leave + [instr(op.BLOCK, self.additions.blocktype(_arm_types(group))) for group in reversed(plan.groups)]

    def close_arms(self, plan: FramePlan, resume: int, results: Sequence[ValType]) -> list[Instr]:
        """The code after the result block's ``return``: per group, save the frame; at last, return zeros."""
        instr = self.additions.instr
        out: list[Instr] = []
        more = len(plan.groups)
        for group in plan.groups:
            out.append(END_INSTR)
            if len(group.sites) == 1:
                out.append(instr(op.I32_CONST, group.sites[0].number))
            out += self._save(plan, group, resume)
            more -= 1
            if more:
                out.append(instr(op.BR, more))
        if len(plan.groups) > 1:
            out.append(END_INSTR)
        return out + self.additions.zeros(results)

    def _save(self, plan: FramePlan, group: Group, resume: int) -> list[Instr]:
        instr = self.additions.instr
        function = instr(op.I32_CONST, resume << 1 | group.covered)
        out: list[Instr] = []
        pieces = pieces_of(plan, group)
        for number, (chunk, text, _, extra) in enumerate(pieces):
            out += [instr(op.LOCAL_GET, local) for local in chunk]
            if number == 0:
                helper = self.machinery.save(frame_letters(group.below), frame_letters(group.carried), text, extra)
                out += [function, instr(op.CALL, helper)]
            else:
                out.append(instr(op.CALL, self.machinery.save_more(text, extra)))
        return out

    def question(self, site: Site, depth: int) -> list[Instr]:
        """Ask whether to leave; ``depth`` is the label of the innermost arm's block from here."""
        instr = self.additions.instr
        shared = len(site.group.sites) > 1
        out = [instr(op.I32_CONST, site.number)] if shared else []
        out += self.machinery.poll() if site.poll else [instr(op.GLOBAL_GET, self.machinery.state)]
        out.append(instr(op.BR_IF, depth + site.group.number))
        if shared:
            out.append(instr(op.DROP))
        return out


def _arm_types(group: Group) -> tuple[ValType, ...]:
    site = (I32,) if len(group.sites) > 1 else ()
    return group.below + group.carried + site


def pieces_of(plan: FramePlan, group: Group) -> list[tuple[tuple[int, ...], str, int, int]]:
    """The live locals in chunks: (locals, their letters, offset in the frame, bytes that follow)."""
    pieces = []
    offset = HEADER_BYTES + sum(frame_width(letter) for letter in frame_letters(group.below))
    total = offset + sum(frame_width(FRAME_LETTERS[plan.locals[local]]) for local in group.live)
    for start in range(0, max(len(group.live), 1), HELPER_VALUES):
        chunk = group.live[start : start + HELPER_VALUES]
        text = frame_letters([plan.locals[local] for local in chunk])
        end = offset + sum(map(frame_width, text))
        pieces.append((chunk, text, offset, total - end))
        offset = end
    return pieces


class Scratch:
    """Fresh locals behind those that both copies share, handed out by type and position."""

    def __init__(self, plan: FramePlan, additions: Additions) -> None:
        self.instr = additions.instr
        self.locals = list(plan.locals)
        self._pool: dict[tuple[ValType, object], int] = {}

    def local(self, valtype: ValType, key: object) -> int:
        """The scratch local for ``key``; references are held nullable, since locals start as null."""
        held = RefType(True, valtype.heap) if isinstance(valtype, RefType) else valtype
        index = self._pool.get((held, key))
        if index is None:
            index = self._pool[(held, key)] = len(self.locals)
            self.locals.append(held)
        return index

    def get(self, valtype: ValType, key: object) -> list[Instr]:
        out = [self.instr(op.LOCAL_GET, self.local(valtype, key))]
        if isinstance(valtype, RefType) and not valtype.nullable:
            out.append(self.instr(op.REF_AS_NON_NULL))
        return out

    def set_all(self, valtypes: Sequence[ValType], kind: str) -> list[Instr]:
        """Pop the operands ``valtypes`` into scratch locals."""
        places = [self.local(valtype, (kind, position)) for position, valtype in enumerate(valtypes)]
        return [self.instr(op.LOCAL_SET, place) for place in reversed(places)]

    def get_all(self, valtypes: Sequence[ValType], kind: str) -> list[Instr]:
        out: list[Instr] = []
        for position, valtype in enumerate(valtypes):
            out += self.get(valtype, (kind, position))
        return out


def signature_of(plan: FramePlan, construct: Construct, additions: Additions) -> FuncType:
    if construct.index == 0:
        return FuncType((), plan.functype.results)
    imm = plan.func.body[construct.start].imm
    return additions.block_signature(imm[0] if construct.code == op.TRY_TABLE else imm)


def operands_taken(plan: FramePlan, construct: Construct, additions: Additions) -> tuple[ValType, ...]:
    """The operands that the opener takes: the parameters, and the condition of an ``if``."""
    params = signature_of(plan, construct, additions).params
    return (*params, I32) if construct.code == op.IF else params
