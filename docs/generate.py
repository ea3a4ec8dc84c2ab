"""Write the reference pages that come from the code: ``python docs/generate.py``.

``--bench FILE`` also writes the page on cost, from ``tox -e bench -- --json``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from audit import conf, events

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py; edit that or the code. -->\n\n"


def settings_page() -> str:
    lines = [
        "# Settings\n",
        "One dict in your Django settings, every key optional, looked up live:\n",
        '```python\nBAMBOO_AUDIT = {\n    "DATABASE": "audit",\n}\n```\n',
        "A wrong value never stops a running process: its default is used. `manage.py` refuses to "
        "go on until it is corrected, and says how.\n",
        "| key | default | meaning | must be |",
        "|---|---|---|---|",
    ]
    for name, option in conf.OPTIONS.items():
        default = (
            ", ".join(option.default) or "()"
            if isinstance(option.default, tuple)
            else repr(option.default)
        )
        lines.append(f"| `{name}` | `{default}` | {option.help} | {option.expects} |")
    lines += [
        "",
        "## The kill switch\n",
        f"The environment variable `{conf.ENABLED_VARIABLE}` goes before `ENABLED`. `0`, `false`, "
        "`no` or `off` switch recording off, anything else on. `@/path/to/file` lets the text of "
        "that file decide, read once a second, so that writing "
        "`off` into it switches running processes; a file that is missing means on. What is not "
        "recorded meanwhile is told by a `gap` record afterwards.",
    ]
    return "\n".join(lines) + "\n"


def events_page() -> str:
    lines = [
        "# Event types\n",
        f"The {len(events.ENGINE_EVENTS)} types of the engine's `pipeline_event`, its other signal "
        "`post_set_state`, and what the recorder says itself. A type that is not listed is "
        "recorded like any other.\n",
        "**attempt**: asked for, the engine may still refuse (pre_ without post_). **fact**: it "
        "has happened. **phase**: a node passed a point of its execution.\n",
        "| event type | meaning | 含义 | id keys | nature | sent by |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{known.name}` | {known.meaning} | {known.meaning_zh} | "
        f"{', '.join(f'`{key}`' for key in known.ids) or '–'} | {known.nature.value} | "
        f"{known.origin.value} |"
        for known in events.VOCABULARY.values()
    ]
    lines += [
        "",
        "## Worth knowing\n",
        "- `node_finish` of a subprocess means that it was **entered**. Its end shows only as "
        "`post_set_state` with `to_state` FINISHED.\n"
        "- The last event of a run is its end event's `node_finish`, after `pipeline_finish`.\n"
        "- An ignored error has no event of its own: it is a FINISHED whose last event was not a "
        "post_ one.\n"
        "- Parallel and conditional parallel gateways send no `pipeline_event`; their states "
        "are in `post_set_state`.\n"
        "- The engine's recovery sends some events again. Both are recorded.",
    ]
    return "\n".join(lines) + "\n"


def cost_page(figures: list[dict[str, object]]) -> str:
    lines = [
        "# What it costs\n",
        "Measured by `tox -e bench` on a shared machine with two cores, the engine in one process, "
        "PostgreSQL from the wheel with its default settings (fsync on) on a Unix socket. Trust "
        "the ratios, not the times, and run it on yours.\n",
        "| what | value | against |",
        "|---|---|---|",
    ]
    for figure in figures:
        against = f"{figure['ratio']:.2f}x of {figure['of']}" if "ratio" in figure else ""
        lines.append(f"| {figure['what']} | {figure['value']:,.1f} {figure['unit']} | {against} |")
    return "\n".join(lines) + "\n"


PAGES = {
    "reference/settings.md": settings_page,
    "reference/events.md": events_page,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", type=Path, help="the JSON that tox -e bench printed")
    options = parser.parse_args()
    for name, page in PAGES.items():
        (DOCS / name).write_text(NOTE + page(), "utf-8")
    if options.bench:
        figures = json.loads(options.bench.read_text("utf-8"))
        (DOCS / "explanation/cost.md").write_text(NOTE + cost_page(figures), "utf-8")


if __name__ == "__main__":
    main()
