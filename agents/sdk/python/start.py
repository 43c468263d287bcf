"""Runs an agent's script in a CPython that has started already. Travels with the agent.

    python /lib/start.py SCRIPT [ARGUMENT ..]

The interpreter is packed as it is in the middle of this file (`agents.sdk.started`). What differs from agent to agent
is looked at after that.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import typing


def _strings(name: str) -> "list[str]":
    with open("/portcall/" + name, "rb") as file:
        return [os.fsdecode(each) for each in file.read().split(b"\0")[:-1]]


def _finish_asyncio(module: "typing.Any") -> None:
    """Its loops wait for sockets, which WASI preview 1 cannot make; here they wait for the time only."""
    import selectors
    import time

    class Clock(selectors._BaseSelectorImpl):
        def select(self, timeout: "float | None" = None) -> "list[typing.Any]":
            if timeout is None:
                raise RuntimeError("nothing is left that could happen: all tasks wait for each other")
            if timeout > 0:
                time.sleep(timeout)
            return []

    class Loop(module.base_events.BaseEventLoop):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._selector = Clock()

        def _process_events(self, events: "list[object]") -> None:
            pass

    class Policy(module.events.BaseDefaultEventLoopPolicy):  # type: ignore[misc]
        _loop_factory = Loop

    module.set_event_loop_policy(Policy())


class _Finishing:
    """A loader of asyncio that finishes it."""

    def __init__(self, loader: "typing.Any") -> None:
        self.loader = loader

    def create_module(self, spec: object) -> object:
        return self.loader.create_module(spec)

    def exec_module(self, module: object) -> None:
        self.loader.exec_module(module)
        _finish_asyncio(module)

    def __getattr__(self, name: str) -> object:
        return getattr(self.loader, name)


class _Asyncio:
    """Finds asyncio where it is."""

    @classmethod
    def find_spec(cls, name: str, path: object, target: object = None) -> object:
        if name != "asyncio":
            return None
        import importlib.util

        sys.meta_path.remove(cls)  # type: ignore[arg-type]
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Finishing(spec.loader)  # type: ignore[assignment]
        return spec


def _run() -> None:
    import io

    import portcall

    sys.meta_path.insert(0, _Asyncio)  # type: ignore[arg-type]
    portcall.sleep(0)  # here it is packed
    for variable in _strings("environ"):
        name, _, value = variable.partition("=")
        os.environ[name] = value
    sys.argv[:] = _strings("args")[2:]
    path = sys.argv[0]
    sys.path[0] = os.path.dirname(path)
    main = type(sys)("__main__")
    main.__file__ = path
    main.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = main
    try:
        with io.open_code(path) as file:
            code = compile(file.read(), path, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except Exception as error:
        # As Python tells of it where a script is run by its name: without what is in this file.
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1)


_run()
