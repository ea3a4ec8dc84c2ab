"""Eight runs, each of which shows something that the log is for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bamboo_engine import api

from . import estate, trees
from .operations import operate, sign_off, start

RETRY = "failure, retry"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the story, and what it is there to show."""

    id: str
    name: str
    shows: str


def tell() -> Iterator[Run]:
    """Let everything happen, one run after the other."""
    for shows, scene in SCENES.items():
        tree = scene()
        yield Run(id=str(tree["id"]), name=str(tree["name"]), shows=shows)


def linear() -> trees.Tree:
    start(tree := trees.staging(), actor="alice", release="5.1.0")
    return tree


def parallel() -> trees.Tree:
    start(tree := trees.all_regions(), actor="alice", release="5.1.0")
    return tree


def nested() -> trees.Tree:
    start(tree := trees.asia(), actor="bob", release="5.1.0")
    return tree


def retried() -> trees.Tree:
    estate.trouble["Shanghai"] = "sh-web-2: no space left on device"
    start(tree := trees.full_disk(), actor="bob", release="5.1.1")
    del estate.trouble["Shanghai"]
    deploy = trees.find(tree, "Deploy to Shanghai")
    operate(api.retry_node, deploy, actor="alice", reason="freed the disk of sh-web-2")
    return tree


def skipped() -> trees.Tree:
    estate.trouble["cache"] = "cache-1.shop.example does not answer"
    start(tree := trees.cold_cache(), actor="bob", release="5.1.2")
    warm = trees.find(tree, "Warm the cache")
    operate(api.skip_node, warm, actor="carol", reason="the cache fills itself within an hour")
    del estate.trouble["cache"]
    return tree


def paused() -> trees.Tree:
    # Only so many tasks at first: the run is in Shanghai when bob stops it.
    run = start(tree := trees.sale(), actor="alice", release="5.2.0", work=2)
    virginia = trees.find(tree, "Roll out in Virginia")
    operate(api.pause_pipeline, run, actor="bob", reason="flash sale until ten o'clock")
    operate(api.pause_node_appoint, virginia, actor="carol", reason="Virginia counts its stock")
    operate(api.resume_pipeline, run, actor="alice", reason="the sale is over")
    operate(api.resume_node_appoint, virginia, actor="carol", reason="stock is counted")
    return tree


def polled() -> trees.Tree:
    start(tree := trees.canary(), actor="alice", release="5.3.0")
    wait = trees.find(tree, "Wait for sign-off")
    sign_off(wait, actor="dave", reason="no errors in Frankfurt for an hour")
    return tree


def revoked() -> trees.Tree:
    run = start(tree := trees.withdrawn(), actor="alice", release="5.4.0")
    operate(api.revoke_pipeline, run, actor="dave", reason="5.4 loses shopping carts")
    return tree


SCENES: dict[str, Callable[[], trees.Tree]] = {
    "one after the other": linear,
    "parallel gateway": parallel,
    "subprocesses": nested,
    RETRY: retried,
    "exception, skip": skipped,
    "pause, resume": paused,
    "polling, callback": polled,
    "revoke": revoked,
}
