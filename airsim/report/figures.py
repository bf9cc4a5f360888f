"""Figures as PDF and PNG, each with the CSV it shows."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from airsim import store
from airsim.errors import ResultsError
from airsim.report.curves import Curve, Point, axis_of, curves, is_number, label_of, with_unit
from airsim.scenario import SUBJECT_OF
from airsim.study.table import RESULTS, StoredSweep

STYLE = Path(__file__).with_name("ieee.mplstyle")
LOG_SCALE = ("pi", "pi_predicted", "pi_realised")
MOST_MARKERS = 20
MOST_LINES_INSIDE = 4
LONGEST_LABEL_INSIDE = 16


@dataclass(frozen=True)
class Drawing:
    """What to draw: axes by column name, and the title of the legend."""

    name: str
    x: str
    x_unit: str
    y: str
    legend: str
    lines: tuple[Curve, ...]

    @property
    def can_be_drawn(self) -> bool:
        """Whether there is a point, and above zero where the axis is logarithmic."""
        points = [point.mean for curve in self.lines for point in curve.points]
        return bool(points) and (self.y not in LOG_SCALE or min(points) > 0)


def sweep_drawings(stored: StoredSweep) -> list[Drawing]:
    """The figures that the scenario asks for; without any, accuracy and Pi_t over SNR or the first key."""
    asked = [(figure.x, figure.y, figure.hue) for figure in stored.scenario.figures]
    if not asked:
        keys = stored.swept_keys
        numeric = [key for key in keys if all(is_number(row[key]) for row in stored.rows)]
        if not numeric:
            raise ResultsError(
                f"{stored.folder}: no swept key is a number, so there is no x axis; {RESULTS} has the table"
            )
        x = "channel.snr" if "channel.snr" in numeric else numeric[0]
        drawings = [_drawing(stored, x, y, None) for y in ("accuracy", "pi_predicted")]
        return [drawing for drawing in drawings if drawing.can_be_drawn]
    return _named_apart([_drawing(stored, x, y, hue) for x, y, hue in asked], [hue for _, _, hue in asked])


def _named_apart(drawings: list[Drawing], hues: list[str | None]) -> list[Drawing]:
    """Figures whose short names collide get the whole key of their x, then of their hue."""
    names = [drawing.name for drawing in drawings]
    longer = [
        f"{d.y}-vs-{d.x}-by-{hue or 'all'}".replace("_", "-").replace(".", "-")
        for d, hue in zip(drawings, hues, strict=True)
    ]
    return [
        drawing if names.count(drawing.name) == 1 else replace(drawing, name=long)
        for drawing, long in zip(drawings, longer, strict=True)
    ]


def run_drawings(run: store.StoredRun) -> list[Drawing]:
    """Accuracy, with what else was evaluated, and Pi_t over the rounds of one run."""
    known = ("accuracy", *(name for name in SUBJECT_OF if any(name in entry for entry in run.rounds)))
    accuracies = tuple(_by_round(run, name) for name in known)
    pi = tuple(_by_round(run, name) for name in ("pi_predicted", "pi_correlated", "pi_realised"))
    drawings = [
        Drawing("accuracy-by-round", "round", "", "accuracy", "", accuracies),
        Drawing("pi-by-round", "round", "", "pi", "", pi),
    ]
    return [drawing for drawing in drawings if drawing.can_be_drawn]


def draw(drawing: Drawing, folder: Path) -> list[Path]:
    """Write one figure as PDF, PNG and CSV; returns the three paths.

    Raises:
        ResultsError: a value of zero cannot stand on a logarithmic axis.
    """
    if not drawing.can_be_drawn:
        raise ResultsError(
            f"{drawing.name}: {drawing.y} is zero somewhere (error-free links?) and its axis is logarithmic: "
            "leave those trials out, or take this figure out of the scenario's `figures`"
        )
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots()
        for curve in drawing.lines:
            x = [point.x for point in curve.points]
            mean = [point.mean for point in curve.points]
            (line,) = axes.plot(x, mean, label=curve.label)
            if len(x) > MOST_MARKERS:
                line.set_marker("None")
            low = [point.mean - point.half_width for point in curve.points]
            high = [point.mean + point.half_width for point in curve.points]
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
        axes.set_xlabel(with_unit(label_of(drawing.x), drawing.x_unit))
        axes.set_ylabel(label_of(drawing.y))
        if drawing.y in LOG_SCALE:
            axes.set_yscale("log")
        if len(drawing.lines) > 1:
            legend = axes.legend(title=drawing.legend or None)
            longest = max(len(curve.label) for curve in drawing.lines)
            if len(drawing.lines) > MOST_LINES_INSIDE or longest > LONGEST_LABEL_INSIDE:
                legend.set_loc("upper center")
                legend.set_bbox_to_anchor((0.5, -0.2))
        paths = [folder / f"{drawing.name}.{kind}" for kind in ("pdf", "png")]
        figure.savefig(paths[0], metadata={"CreationDate": None})
        figure.savefig(paths[1])
        plt.close(figure)
    table = folder / f"{drawing.name}.csv"
    store.write_atomically(table, _csv(drawing))
    return [*paths, table]


def _drawing(stored: StoredSweep, x: str, y: str, hue: str | None) -> Drawing:
    others = [key for key in stored.swept_keys if key != x]
    lines = curves(stored.rows, x, y, stored.swept_keys, hue)
    name = f"{y}-vs-{x.rsplit('.', 1)[-1]}".replace("_", "-")
    _, unit = axis_of([row[x] for row in stored.rows], x)
    return Drawing(name, x, unit, y, label_of(others[0]) if len(others) == 1 else "", lines)


def _by_round(run: store.StoredRun, name: str) -> Curve:
    seen = [(entry["round"], entry[name]) for entry in run.rounds if name in entry]
    return Curve(
        name.removeprefix("pi_").replace("_", " "), tuple(Point(float(x), y, 0.0, 1) for x, y in seen)
    )


def _csv(drawing: Drawing) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["line", with_unit(drawing.x, drawing.x_unit), drawing.y, "half_width_95", "num_seeds"])
    for curve in drawing.lines:
        writer.writerows(
            [curve.label, point.x, point.mean, point.half_width, point.num_seeds] for point in curve.points
        )
    return text.getvalue()


def draw_all(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write all figures of a sweep or a run."""
    return [path for drawing in drawings for path in draw(drawing, folder)]
