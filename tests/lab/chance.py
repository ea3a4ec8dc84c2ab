"""Pipelines by chance, driven by chance: the same seed is the same run.

Gateways within gateways, subprocesses, loops, and activities that are done, fail, raise, poll, are
called back, repeat themselves or have their errors ignored. While they run somebody pauses,
resumes, retries, skips, forces to fail, calls back and revokes, also what the engine refuses.
"""

from __future__ import annotations

import itertools
from random import Random
from typing import Any, Final

from bamboo_engine import builder
from bamboo_engine.builder import Var
from pipeline.eri.models import State

import audit
from lab.engine import activity
from lab.scenarios import Run, subprocess

MOST_STEPS: Final = 40


class Pipelines:
    """Builds trees by chance."""

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.numbers = itertools.count(1)
        self.repeating: set[str] = set()

    def tree(self) -> dict[str, Any]:
        """A whole pipeline."""
        start, data = builder.EmptyStartEvent(), builder.Data()
        tail: Any = self.chain(start, depth=2)
        end = builder.EmptyEndEvent()
        if self.chance.random() < 0.3:
            tail = self.again(tail, end, data)
        else:
            tail.extend(end)
        tree: dict[str, Any] = builder.build_tree(start, data=data)
        for node in _activities(tree):
            if node["id"] in self.repeating:
                node["loop_config"] = {"enable": True, "loop_times": self.chance.randint(1, 3)}
        return tree

    def chain(self, head: Any, depth: int) -> Any:
        """Some elements after another one; answers the last."""
        tail = head
        for _ in range(self.chance.randint(1, 3 if depth else 2)):
            kind = self.chance.random()
            if depth and kind < 0.2:
                tail = tail.extend(self.subprocess(depth - 1))
            elif depth and kind < 0.5:
                tail = self.gateway(tail, depth - 1)
            else:
                tail = tail.extend(self.activity())
        return tail

    def name(self, kind: str) -> str:
        return f"{kind}{next(self.numbers)}"

    def activity(self) -> builder.ServiceActivity:
        chance = self.chance
        code, inputs = chance.choice(
            [
                ("lab_ok", {}),
                ("lab_ok", {}),
                ("lab_fail_first", {"times": chance.randint(1, 2)}),
                ("lab_raise", {}),
                ("lab_poll", {"times": chance.randint(1, 4)}),
                ("lab_poll", {"times": 2, "mode": chance.choice(["fail", "raise"])}),
                ("lab_callback", {}),
            ]
        )
        found = activity(code, self.name("act"), **inputs)
        found.error_ignorable = chance.random() < 0.25
        if code == "lab_ok" and chance.random() < 0.2:
            self.repeating.add(found.id)
        return found

    def subprocess(self, depth: int) -> builder.SubProcess:
        start = builder.EmptyStartEvent()
        self.chain(start, depth).extend(builder.EmptyEndEvent())
        found = subprocess(self.name("sub"), activity("lab_ok", self.name("act")))
        found.start = start
        return found

    def gateway(self, tail: Any, depth: int) -> Any:
        branches = []
        for _ in range(self.chance.randint(2, 3)):
            first = self.activity()
            if depth and self.chance.random() < 0.5:
                self.chain(first, depth)
            branches.append(first)
        fork = self.fork(len(branches))
        tail.extend(fork).connect(*branches)
        return fork.converge(builder.ConvergeGateway(name=self.name("join")))

    def fork(self, branches: int) -> Any:
        kind = self.chance.random()
        taken = self.chance.randrange(branches)
        if kind < 0.6:
            return builder.ParallelGateway(name=self.name("fork"))
        if kind < 0.8:
            conditions = {each: "1 == 1" if each == taken else "1 == 2" for each in range(branches)}
            return builder.ExclusiveGateway(name=self.name("gate"), conditions=conditions)
        conditions = {
            each: "1 == 1" if each == taken or self.chance.random() < 0.5 else "1 == 2"
            for each in range(branches)
        }
        return builder.ConditionalParallelGateway(name=self.name("gate"), conditions=conditions)

    def again(self, tail: Any, end: Any, data: Any) -> Any:
        """An activity that a gateway sends the run back to."""
        act = activity("lab_ok", self.name("act"))
        times = self.chance.randint(2, 3)
        gate = builder.ExclusiveGateway(
            name=self.name("gate"), conditions={0: f"${{n}} >= {times}", 1: f"${{n}} < {times}"}
        )
        tail.extend(act).extend(gate).connect(end, act)
        data.inputs["${n}"] = builder.NodeOutput(
            type=Var.SPLICE, source_act=act.id, source_key="_loop", value=""
        )
        return end


def _activities(pipeline: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for node in pipeline["activities"].values():
        found.append(node)
        if "pipeline" in node:
            found += _activities(node["pipeline"])
    return found


class People:
    """Do things to a run by chance, most of them sensible."""

    def __init__(self, run: Run, chance: Random) -> None:
        self.run, self.chance = run, chance
        self.pipelines = ["root", *(run.names[each] for each in _subprocesses(run.tree))]
        self.codes = {
            run.names[node["id"]]: node.get("component", {}).get("code", "")
            for node in _activities(run.tree)
        }

    def states(self, *wanted: str) -> list[str]:
        rows = State.objects.filter(node_id__in=list(self.run.names), name__in=wanted)
        return sorted(self.run.names[row.node_id] for row in rows)

    def act(self) -> None:
        """One operation; nothing where nobody has anything to do."""
        actor = self.chance.choice(["alice", "bob"])
        with audit.context(actor=actor, reason="by chance"):
            self.chance.choice(
                [self.settle, self.settle, self.pause, self.force, self.meddle, self.revoke]
            )()

    def settle(self) -> bool:
        """Do what the run waits for; whether it waited for anything."""
        for name in self._shuffled(self.states("SUSPENDED")):
            is_pipeline = name in self.pipelines and name not in self.codes
            if is_pipeline or not self._do("resume_node_appoint", name):
                self._do("resume_pipeline", name)
            return True
        for name in self._shuffled(self.states("FAILED")):
            self.mend(name)
            return True
        for name in self._shuffled(self.states("RUNNING")):
            if self.codes.get(name) == "lab_callback":
                data = {"fail": self.chance.random() < 0.2}
                self._do("callback", name, self.run.version(name), data)
                return True
        return False

    def mend(self, name: str) -> None:
        if name not in self.codes:
            self._do("retry_node", name)
        elif self.chance.random() < 0.5:
            self._do("skip_node", name)
        else:
            self._do("retry_node", name, {"times": 1, "mode": "ok"})

    def pause(self) -> None:
        if self.chance.random() < 0.6:
            self._do("pause_pipeline", self.chance.choice(self.pipelines))
        else:
            self._do("pause_node_appoint", self.chance.choice(list(self.codes)))

    def force(self) -> None:
        for name in self._shuffled(self.states("RUNNING")):
            if self.codes.get(name):
                self._do("forced_fail_activity", name, ex_data="enough")
                return

    def meddle(self) -> None:
        """What the engine refuses, more often than not."""
        name = self.chance.choice(list(self.codes))
        operation = self.chance.choice(["retry_node", "skip_node", "resume_node_appoint"])
        self._do(operation, name)

    def revoke(self) -> None:
        if self.chance.random() < 0.1:
            self._do("revoke_pipeline", "root")

    def _do(self, operation: str, name: str, *args: Any, **kwargs: Any) -> bool:
        return bool(self.run.call(operation, name, *args, work=False, **kwargs).result)

    def _shuffled(self, names: list[str]) -> list[str]:
        return self.chance.sample(names, len(names))


def _subprocesses(pipeline: dict[str, Any]) -> list[str]:
    return [node["id"] for node in _activities(pipeline) if "pipeline" in node]


def run_by_chance(seed: int) -> Run:
    """A run that is over, or that stands still where nobody goes on with it."""
    chance = Random(seed)
    run = Run(Pipelines(chance).tree()).start(work=False, cycle_tolerate=True)
    people = People(run, chance)
    for _ in range(chance.randint(0, MOST_STEPS // 2)):
        run.work(most=chance.randint(0, 8))
        if chance.random() < 0.4:
            people.act()
    if chance.random() < 0.8:
        for _ in range(MOST_STEPS):
            run.work()
            if not people.settle():
                break
    run.work()
    return run
