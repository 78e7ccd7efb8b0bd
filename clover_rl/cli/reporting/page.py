"""The page: one HTML file that asks nothing of the network, and the pictures on it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from clover_rl.cli.reporting.causes import draw_causes
from clover_rl.cli.reporting.frontier import draw_frontier
from clover_rl.cli.reporting.headroom_figure import draw_headroom
from clover_rl.cli.reporting.learning import draw_learning
from clover_rl.cli.reporting.picture import Picture, styled
from clover_rl.cli.reporting.results import Study, Training, number_of
from clover_rl.cli.reporting.robustness import robustness
from clover_rl.cli.reporting.tables import equal_accuracy, everything, means
from clover_rl.cli.reporting.timeline import draw_timeline

__all__ = ["Page", "build_page"]

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content-Security-Policy: a browser would not fetch anything even if something on the page asked it to."""

ABOUT = (
    "Every controller met the same windows, hardware, load and arrivals, one simulated request after the "
    "other, and paid for each of its transitions. J is the mean objective per interval; the share of "
    "headroom is (J - J_static) / (J_oracle - J_static), left out where the gap is too small to say anything."
)


@dataclass(frozen=True, slots=True)
class Page:
    """A report.

    Attributes:
        html: the whole file.
        pictures: its figures, in order.
        absent: what was left out, one sentence each.
    """

    html: str
    pictures: list[Picture]
    absent: list[str]


class _Writer:
    """Collects parts of the page in order."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.pictures: list[Picture] = []
        self.absent: list[str] = []

    def add(self, html: str) -> None:
        self.parts.append(html)

    def table(self, html: str | None, instead: str) -> None:
        """A table, or the sentence that says why there is none."""
        if html is None:
            self.leave_out(instead)
        else:
            self.add(f'<div class="card">{html}</div>\n')

    def leave_out(self, sentence: str) -> None:
        """Say on the page what is not on it."""
        self.absent.append(sentence)
        self.add(f'<p class="absent">{escape(sentence)}</p>\n')

    def picture(self, picture: Picture | None, instead: str) -> None:
        """A figure, or the sentence that says why there is none."""
        if picture is None:
            self.leave_out(instead)
            return
        self.pictures.append(picture)
        self.add(
            f'<figure id="{picture.name}"><h3 id="{picture.name}-title">{escape(picture.title)}</h3>'
            f'<div class="scroll" tabindex="0">{picture.inline()}</div>'
            f"<figcaption>{escape(picture.caption)}</figcaption></figure>\n"
        )


def build_page(
    studies: Sequence[Study], trainings: Sequence[Training], *, title: str, w: float | None = None
) -> Page:
    """Draw and write everything that the results hold; the same results give the same bytes.

    Args:
        studies: evaluations.
        trainings: training records.
        title: of the page.
        w: weight of the figures that show one; the nearest there is, a middle one when left out.
    """
    writer = _Writer()
    with styled():
        for number, study in enumerate(studies, 1):
            _study(writer, study, f"study{number}", study.nearest_weight(w))
        writer.add('<section id="training"><h2>Training</h2>\n')
        writer.picture(
            draw_learning(trainings, "learning"),
            "Learning curves are left out: no training record with validations was given.",
        )
        writer.add("</section>\n")
    links = [(f"study{number}", study.scenario) for number, study in enumerate(studies, 1)]
    links.append(("training", "Training"))
    contents = "".join(f'<li><a href="#{place}">{escape(name)}</a></li>' for place, name in links)
    css = files("clover_rl.cli.reporting").joinpath("page.css").read_text(encoding="utf-8")
    html = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>\n{css}</style></head>\n'
        f"<body><header><h1>{escape(title)}</h1><p>{escape(ABOUT)}</p>"
        f"<nav aria-label='Contents'><ul>{contents}</ul></nav></header>\n<main>\n"
        + "".join(writer.parts)
        + "</main>\n<footer>Written by clover-rl report. Figures are modelled where nothing else is said."
        "</footer></body></html>\n"
    )
    return Page(html, writer.pictures, writer.absent)


def _study(writer: _Writer, study: Study, place: str, w: float) -> None:
    windows = study.windows
    writer.add(f'<section id="{place}"><h2>{escape(study.scenario)}</h2>\n')
    count = "one window" if len(windows) == 1 else f"{len(windows)} windows"
    weights = ", ".join(f"{each:g}" for each in study.weights)
    kind = escape(str(study.document.get("intensity_kind") or "kind not said"))
    writer.add(
        f'<p class="facts">{escape(study.source)}: {count}, {len(study.controllers)} controllers, '
        f"w = {weights}; carbon intensity: {kind}</p>\n"
    )
    writer.add(f'<div class="card">{means(study, w)}</div>\n')
    writer.picture(
        draw_frontier(study, f"{place}-frontier"),
        "The carbon-accuracy frontier is left out: the results hold no carbon and accuracy.",
    )
    writer.table(
        equal_accuracy(study),
        "Carbon at equal accuracy is left out: the results do not say it, or no losses reach as far.",
    )
    writer.picture(
        draw_headroom(study, f"{place}-headroom"),
        "Shares of headroom are left out: in no window does the oracle lead the best static configuration by "
        "enough to share.",
    )
    writer.picture(
        draw_causes(study, w, f"{place}-causes"),
        "Savings by cause are left out: the results do not split them (`clover-rl evaluate --causes`).",
    )
    writer.table(
        robustness(study),
        "The robustness table is left out: nothing was disturbed (`clover-rl evaluate --robust`).",
    )
    drawn = 0
    for index, row in enumerate(study.at_weight(w), 1):
        picture = draw_timeline(study, row, f"{place}-day{index}")
        if picture is not None:
            writer.picture(picture, "")
            drawn += 1
    if not drawn:
        writer.leave_out(
            "Days are not drawn: the results hold no course by the hour (`clover-rl evaluate --out`)."
        )
    writer.add(f'<div class="card">{everything(study)}</div>\n')
    writer.add(_provenance(study))
    writer.add("</section>\n")


def _provenance(study: Study) -> str:
    """What it takes to find the same figures again."""
    document = study.document
    versions = document.get("versions")
    facts = [
        ("command", f"<code>{escape(str(document.get('command', 'not said')))}</code>"),
        ("seed", escape(str(document.get("seed", "not said")))),
    ]
    if isinstance(versions, dict):
        text = ", ".join(f"{name} {number}" for name, number in versions.items())
        facts.append(("versions", escape(text)))
    margins = document.get("margins")
    if isinstance(margins, dict) and margins:
        known = [(name, number_of(value)) for name, value in margins.items()]
        text = ", ".join(f"{name} {value:g}" for name, value in known if value is not None)
        facts.append(("margins tuned on training windows", escape(text)))
    knows = {
        name: f"{run.detail['knows']}{_space(run.detail)}"
        for row in study.rows
        for name, run in row.runs.items()
        if run.detail.get("knows")
    }
    facts += [(f"{escape(name)} knows", escape(text)) for name, text in sorted(knows.items())]
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts)
    definition = document.get("scenario_definition")
    details = (
        f"<details><summary>Scenario</summary><pre>{escape(json.dumps(definition, indent=1))}</pre></details>"
        if isinstance(definition, dict)
        else ""
    )
    return f'<div class="card"><h3>How to find these figures again</h3><dl>{body}</dl>{details}</div>\n'


def _space(detail: Mapping[str, object]) -> str:
    size = number_of(detail.get("space_size"))
    if size is None:
        return ""  # of a run that was kept before runs said so
    return "; one configuration" if size == 1 else f"; chooses from {size:.0f} configurations"
