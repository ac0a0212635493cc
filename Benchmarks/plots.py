"""One plot as SVG, the same bytes for the same figures."""
import matplotlib
from matplotlib import pyplot

matplotlib.use("Agg")
matplotlib.rcParams.update({
    "svg.hashsalt": "comfy-bridge", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3, "legend.frameon": False,
})
COLOURS = ["#1f77b4", "#d62728", "#7f7f7f", "#2ca02c", "#9467bd", "#8c564b"]


def draw(plot, file):
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    if all(isinstance(x, str) for series in plot["series"].values() for x in series["x"]):
        _columns(axes, plot["series"])
    else:
        _lines(axes, plot["series"])
    if "x" in plot.get("log", ""):
        axes.set_xscale("log")
    if "y" in plot.get("log", ""):
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set(title=plot["title"], xlabel=plot["x"], ylabel=plot["y"])
    axes.legend()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    pyplot.close(figure)


def _lines(axes, series):
    for (label, line), colour in zip(series.items(), COLOURS):
        axes.plot(line["x"], line["y"], marker="o", markersize=3, linewidth=1.2, color=colour, label=label)
        if "low" in line:
            axes.fill_between(line["x"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)


def _columns(axes, series):
    names = list(dict.fromkeys(x for line in series.values() for x in line["x"]))
    width = 0.8 / len(series)
    for place, ((label, line), colour) in enumerate(zip(series.items(), COLOURS)):
        at = [names.index(x) - 0.4 + width * (place + 0.5) for x in line["x"]]
        spread = [[y - low for y, low in zip(line["y"], line["low"])], [high - y for y, high in zip(line["y"], line["high"])]] if "low" in line else None
        axes.bar(at, line["y"], width, yerr=spread, error_kw={"linewidth": 0.8}, color=colour, label=label)
    axes.set_xticks(range(len(names)), names)
