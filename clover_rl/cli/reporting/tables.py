"""Tables of a report: means at one weight, robustness, and every figure with its kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from clover_rl.cli.reporting.palette import look_of, ordered
from clover_rl.cli.reporting.results import Row, Study, number_of

__all__ = [
    "ABSENT",
    "COLUMNS",
    "Column",
    "equal_accuracy",
    "everything",
    "html_table",
    "mean_of",
    "means",
    "named",
    "percent",
]

ABSENT = "–"  # noqa: RUF001 - a dash for people


@dataclass(frozen=True, slots=True)
class Column:
    """A figure of a run.

    Attributes:
        title: with its unit.
        key: in the evaluation's document.
        show: a number as text.
        kind: measured, attributed or modelled. Runs are simulated, so only clocks are measured.
    """

    title: str
    key: str
    show: Callable[[float], str]
    kind: str = "modelled"


def percent(digits: int) -> Callable[[float], str]:
    """What writes shares of 1 as percentages."""
    return lambda value: f"{round(100 * value, digits) + 0.0:.{digits}f} %"


def mean_of(values: Iterable[float | None]) -> float | None:
    """Mean of those that are there; None where none is."""
    seen = [value for value in values if value is not None]
    return sum(seen) / len(seen) if seen else None


def _fixed(digits: int) -> Callable[[float], str]:
    return lambda value: f"{value:.{digits}f}"


def _carbon(value: float) -> str:
    return f"{value:#.3g}"


COLUMNS = (
    Column("objective", "objective", _fixed(4)),
    Column("share of headroom", "headroom_share", _fixed(2)),
    Column("gCO2 / request", "carbon_g_per_request", _carbon),
    Column("saved against BASE", "saved", percent(1)),
    Column("accuracy lost", "accuracy_loss", percent(2)),
    Column("SLA held", "sla_held", percent(2)),
    Column("p95 / SLA", "p95_over_sla", _fixed(2)),
    Column("transitions", "transitions", _fixed(0)),
    Column("live trials", "live_trials", _fixed(0)),
    Column("decision, µs", "decision_us", _fixed(0), "measured"),
    Column("embodied gCO2e / request", "embodied_g_per_request", _carbon, "attributed"),
    Column("SCI, gCO2e / request", "sci_g_per_request", _carbon),
)


def _figure(row: Row, name: str, key: str) -> float | None:
    if key == "saved":
        relative = row.relative_carbon(name)
        return None if relative is None else 1.0 - relative
    return row.runs[name].get(key)


def html_table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()
) -> str:
    """A table whose cells are HTML already; the first column of each row is its heading.

    Args:
        caption: HTML.
        head: titles of columns, HTML.
        rows: cells, HTML.
        kinds: a second line of the head; none when empty.
    """
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    under = "".join(f"<th>{escape(kind)}</th>" for kind in kinds)
    body = "".join(
        f'<tr><th scope="row">{cells[0]}</th>{"".join(f"<td>{cell}</td>" for cell in cells[1:])}</tr>\n'
        for cells in rows
    )
    second = f'<tr class="kinds">{under}</tr>' if kinds else ""
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{caption}</caption>'
        f"<thead><tr>{top}</tr>{second}</thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def named(study: Study, name: str) -> str:
    """A controller's name with its colour before it."""
    colour = look_of(name, study.controllers).colour
    return f'<span class="dot" style="background:{colour}"></span>{escape(name)}'


def _cells(columns: Sequence[Column], values: Mapping[str, float | None]) -> list[str]:
    found = [(column, values.get(column.key)) for column in columns]
    return [ABSENT if value is None else escape(column.show(value)) for column, value in found]


def _present(study: Study) -> list[Column]:
    """Columns of which there is a figure at all."""
    return [
        column
        for column in COLUMNS
        if any(_figure(row, name, column.key) is not None for row in study.rows for name in row.runs)
    ]


def means(study: Study, w: float) -> str:
    """Means over the windows at one weight, one row a controller; the SLA's worst window beside its mean."""
    rows = study.at_weight(w)
    columns = _present(study)
    head = ["controller", *(escape(column.title) for column in columns), "SLA held, worst window"]
    body = []
    for name in ordered(each for row in rows for each in row.runs if each not in study.members):
        own = [row for row in rows if name in row.runs]
        values: dict[str, float | None] = {}
        for column in columns:
            values[column.key] = mean_of(_figure(row, name, column.key) for row in own)
        worst = [value for row in own if (value := row.runs[name].get("sla_held")) is not None]
        shown = escape(percent(2)(min(worst))) if worst else ABSENT
        body.append([named(study, name), *_cells(columns, values), shown])
    count = f"{len(rows)} windows" if len(rows) != 1 else "one window"
    kinds = ["", *(column.kind for column in columns), "modelled"]
    return html_table(f"Means over {count} at w = {w:g}", head, body, kinds)


def equal_accuracy(study: Study) -> str | None:
    """Carbon where each controller loses the same accuracy, one line a window and loss.

    Returns:
        HTML; None where the results do not say, or no controller's losses reach that far.
    """
    found = study.document.get("equal_accuracy")
    rows = [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []
    rows = [row for row in rows if not row.get("conditions") and isinstance(row.get("controllers"), dict)]
    shown = [
        {name: figures for name, figures in row["controllers"].items() if isinstance(figures, dict)}
        for row in rows
    ]
    names = ordered(name for each in shown for name in each if name not in study.members)
    if not names:
        return None
    body = []
    for row, controllers in zip(rows, shown, strict=True):
        loss = number_of(row.get("accuracy_loss"))
        window = " x ".join(str(row[key]) for key in ("carbon", "load") if row.get(key))
        cells = []
        for name in names:
            carbon = number_of(controllers.get(name, {}).get("carbon_g_per_request"))
            saved = number_of(controllers.get(name, {}).get("saved"))
            text = ABSENT if carbon is None else _carbon(carbon)
            cells.append(escape(text if saved is None else f"{text} ({percent(1)(saved)})"))
        body.append([escape(window), ABSENT if loss is None else percent(0)(loss), *cells])
    caption = "Carbon at equal accuracy lost: gCO2 / request (saved against BASE), read between weights"
    kinds = ["", "", *(["modelled"] * len(names))]
    return html_table(
        caption, ["window", "accuracy lost", *(named(study, name) for name in names)], body, kinds
    )


def everything(study: Study) -> str:
    """Every figure of every window, weight and controller."""
    columns = _present(study)
    head = ["window", "w", "gap", "controller", *(escape(column.title) for column in columns)]
    body = []
    for (carbon, load), rows in study.windows.items():
        for row in rows:
            for name in ordered(row.runs):
                values = {column.key: _figure(row, name, column.key) for column in columns}
                gap = ABSENT if row.gap is None else f"{row.gap:.4f}"
                window = escape(" x ".join(part for part in (carbon, load) if part))
                body.append([window, f"{row.w:g}", gap, named(study, name), *_cells(columns, values)])
    kinds = ["", "", "modelled", "", *(column.kind for column in columns)]
    return html_table("Every window, weight and controller", head, body, kinds)
