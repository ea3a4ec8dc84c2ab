from __future__ import annotations

import re

import pytest

from audit import events
from audit.events import ENGINE_EVENTS, OTHER_EVENTS, VOCABULARY, Nature, Origin

NAMES = [event.name for event in ENGINE_EVENTS]
BY_NAME = sorted(VOCABULARY)


def test_the_vocabulary_is_the_engines_37_its_other_signal_and_our_own():
    assert len(ENGINE_EVENTS) == len(set(NAMES)) == 37
    ours = {event.name for event in OTHER_EVENTS if event.origin is Origin.RECORDER}
    assert ours >= {events.GAP, events.NODE_FAILURE_DETAIL, events.POLLS_SUPPRESSED}
    assert VOCABULARY.keys() == {*NAMES, events.POST_SET_STATE, *ours}
    assert all(VOCABULARY[name].name == name for name in VOCABULARY)


def test_they_are_exactly_what_the_engine_can_send():
    hooks = pytest.importorskip("pipeline.eri.imp.hooks")
    sent = {name for name in vars(hooks.HooksMixin) if not name.startswith("_")}
    assert sent == set(NAMES)


def test_the_engine_names_its_own_sender_as_we_do():
    models = pytest.importorskip("pipeline.eri.models")
    from audit import receivers

    assert receivers._sender_name(models.State) == receivers.ENGINE_SENDER


@pytest.mark.parametrize("name", BY_NAME)
def test_each_has_a_meaning_in_both_languages(name):
    event = VOCABULARY[name]
    assert re.fullmatch(r"[A-Z][\x20-\x7e]+[^. ]", event.meaning)
    assert re.search(r"[\u4e00-\u9fff]{2}", event.meaning_zh)
    assert not event.meaning_zh.endswith("。")


def test_no_two_mean_the_same():
    assert len({event.meaning for event in VOCABULARY.values()}) == len(VOCABULARY)
    assert len({event.meaning_zh for event in VOCABULARY.values()}) == len(VOCABULARY)


@pytest.mark.parametrize("name", NAMES)
def test_a_pre_event_of_a_caller_is_an_attempt_and_its_post_event_a_fact(name):
    event = VOCABULARY[name]
    if event.origin is not Origin.CALLER:
        assert event.nature is not Nature.ATTEMPT, "nobody asks a worker"
        return
    prefix, _, verb = name.partition("_")
    assert event.nature is {"pre": Nature.ATTEMPT, "post": Nature.FACT}[prefix]
    other = VOCABULARY[f"{ {'pre': 'post', 'post': 'pre'}[prefix] }_{verb}"]
    assert (other.ids, other.intervention) == (event.ids, event.intervention)


def test_a_phase_is_a_workers_and_says_nothing_about_a_state():
    phases = {event.name for event in VOCABULARY.values() if event.nature is Nature.PHASE}
    assert phases == {"pre_execute", "post_execute", "pre_schedule", "post_schedule"}


def test_interventions_are_what_people_do():
    verbs = {name.partition("_")[2] for name in NAMES if VOCABULARY[name].intervention}
    assert verbs == {
        *("pause_pipeline", "resume_pipeline", "revoke_pipeline"),
        *("pause_node", "resume_node", "retry_node", "skip_node", "retry_subprocess"),
        *("skip_exclusive_gateway", "skip_conditional_parallel_gateway"),
        *("forced_fail_activity", "callback"),
    }
    assert all(event.origin is Origin.CALLER for event in VOCABULARY.values() if event.intervention)


def test_ids_are_keys_that_the_recorder_reads():
    known = {"pipeline", "pipeline_id", "root_pipeline_id", "node_id", "root_id", "parent_id"}
    for event in VOCABULARY.values():
        assert set(event.ids) <= known
        assert event.ids or event.origin is Origin.RECORDER
