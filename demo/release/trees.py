"""The pipelines of the shop, built with the engine's builder; one function for each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bamboo_engine.builder import (
    ConvergeGateway,
    Data,
    DataInput,
    EmptyEndEvent,
    EmptyStartEvent,
    NodeOutput,
    ParallelGateway,
    Params,
    ServiceActivity,
    SubProcess,
    Var,
    build_tree,
)

Tree = dict[str, Any]
IMAGE = "${image}"


def staging() -> Tree:
    """One node after the other."""
    build = _build()
    return _tree(
        "Release 5.1 to staging",
        build,
        _node("Run tests", "release_run_tests", image=IMAGE),
        _node("Deploy to staging", "release_deploy", place="staging", image=IMAGE),
        _announce(),
        image_from=build,
    )


def all_regions() -> Tree:
    """Three regions at the same time, each in its own number of batches."""
    build = _build()
    fork, join = ParallelGateway(name="All regions at once"), ConvergeGateway(name="All done")
    fork.connect(*(_roll_out(region) for region in ("Shanghai", "Frankfurt", "Virginia")))
    fork.converge(join)
    return _tree("Release 5.1 to all regions", build, fork, join, _announce(), image_from=build)


def asia() -> Tree:
    """A subprocess in a subprocess; each hands the image down."""
    build = _build()
    shanghai = _subprocess(
        "Shanghai",
        _node("Deploy to Shanghai", "release_deploy", place="Shanghai", image=IMAGE),
        _node("Warm the cache", "release_warm_cache"),
    )
    continent = _subprocess("Asia", shanghai, _announce())
    return _tree("Release 5.1 to Asia", build, continent, image_from=build)


def full_disk() -> Tree:
    """Deploying fails until somebody has made room."""
    build = _build()
    deploy = _node("Deploy to Shanghai", "release_deploy", place="Shanghai", image=IMAGE)
    return _tree("Hotfix 5.1.1: disk is full", build, deploy, image_from=build)


def cold_cache() -> Tree:
    """Warming the cache raises, and the release can do without."""
    build = _build()
    return _tree(
        "Hotfix 5.1.2: cache is down",
        build,
        _node("Deploy to Frankfurt", "release_deploy", place="Frankfurt", image=IMAGE),
        _node("Warm the cache", "release_warm_cache"),
        _announce(),
        image_from=build,
    )


def sale() -> Tree:
    """One region after the other: time enough to stop in between."""
    build = _build()
    return _tree(
        "Release 5.2 around a sale",
        build,
        _roll_out("Shanghai"),
        _roll_out("Frankfurt"),
        _roll_out("Virginia"),
        image_from=build,
    )


def canary() -> Tree:
    """Polls until the batches are through, then waits for a person."""
    build = _build()
    return _tree(
        "Release 5.3, canary first",
        build,
        _roll_out("Frankfurt"),
        _node("Wait for sign-off", "release_sign_off"),
        _node("Deploy to Shanghai", "release_deploy", place="Shanghai", image=IMAGE),
        image_from=build,
    )


def withdrawn() -> Tree:
    """Waits for a person, who says no."""
    build = _build()
    return _tree(
        "Release 5.4, withdrawn",
        build,
        _node("Wait for sign-off", "release_sign_off"),
        _node("Deploy to Virginia", "release_deploy", place="Virginia", image=IMAGE),
        image_from=build,
    )


def nodes(tree: Tree) -> Iterator[tuple[str, str]]:
    """Id and name of the pipeline itself and of every node in it, however deep."""
    yield str(tree["id"]), str(tree.get("name") or "")
    yield from _inner_nodes(tree)


def find(tree: Tree, name: str) -> str:
    """The id of the node with this name."""
    return next(node_id for node_id, node_name in nodes(tree) if node_name == name)


def _inner_nodes(tree: Tree) -> Iterator[tuple[str, str]]:
    for event in (tree["start_event"], tree["end_event"]):
        yield event["id"], event.get("name") or ""
    for node in (*tree["activities"].values(), *tree["gateways"].values()):
        yield node["id"], node.get("name") or ""
        if "pipeline" in node:
            yield from _inner_nodes(node["pipeline"])


def _tree(name: str, *elements: Any, image_from: Any) -> Tree:
    data = Data()
    data.inputs[IMAGE] = NodeOutput(type=Var.SPLICE, source_act=image_from.id, source_key="image")
    return {**build_tree(_chain(*elements), data=data), "name": name}


def _subprocess(name: str, *elements: Any) -> Any:
    data = Data()
    data.inputs[IMAGE] = DataInput(type=Var.PLAIN, value="")
    params = Params({IMAGE: Var(type=Var.SPLICE, value=IMAGE)})
    return SubProcess(name=name, start=_chain(*elements), data=data, params=params)


def _chain(*elements: Any) -> Any:
    """Start, the elements one after the other, end; answers the start.

    A parallel gateway is followed by its converge gateway, which its branches lead to already.
    """
    start = EmptyStartEvent(name="Start")
    for element in (*elements, EmptyEndEvent(name="End")):
        tail = start.tail()
        if tail is not element:
            tail.extend(element)
    return start


def _node(name: str, code: str, **inputs: Any) -> Any:
    activity = ServiceActivity(name=name, component_code=code)
    for key, value in inputs.items():
        kind = Var.SPLICE if value == IMAGE else Var.PLAIN
        activity.component.inputs[key] = Var(type=kind, value=value)
    return activity


def _build() -> Any:
    # The token reaches the plugin, and not the log: bamboo-audit redacts keys like this one.
    return _node("Build image", "release_build_image", registry_token="none")  # noqa: S106


def _roll_out(region: str) -> Any:
    return _node(f"Roll out in {region}", "release_roll_out", region=region, image=IMAGE)


def _announce() -> Any:
    return _node("Announce", "release_announce", channel="releases")
