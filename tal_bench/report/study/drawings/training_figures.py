"""Figures of training (losses and validation mAP over epochs) and of tuning."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tal_bench.report.common.figure_declaration import FigureDeclaration
from tal_bench.report.common.figure_marks import mark
from tal_bench.report.common.plot_style import (
    BLACK,
    BLUE,
    GREY,
    RED,
    SMALL,
    TINY,
    WIDTH,
    caption,
    column_name,
    name,
    new_figure,
    plain,
)
from tal_bench.report.study import notes
from tal_bench.report.study.collect import ReportData
from tal_bench.report.study.drawings.accuracy_figures import legend_of_rows, line_styles
from tal_bench.report.study.trials import MIN_TRIALS, importances, is_logarithmic, trial_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_LOSS = "labels"
"""Loss on labels, the only loss that all rows have and that can be compared between them."""
COLUMNS = 3
COLUMN = 1.05
"""Width in inches of a setting in the figure of importances."""
MAX_SETTINGS = 12
"""Maximum number of settings in the figure of importances before weights of single rows share a column."""
OWN_WEIGHTS = "weights of own terms"
PANEL_TITLE = 34
"""Maximum length of the title of a panel."""


def training_figure(study: ReportData) -> Figure | None:
    """Draw the loss on labels and validation mAP over epochs; None if no epoch was recorded."""
    losses = _curves(study, final=True)
    scores = _curves(study, final=False)
    if losses.empty and scores.empty:
        return None
    styles = line_styles(study.rows)
    drawing = new_figure(WIDTH, 4.3)
    left, right = drawing.subplots(1, 2)
    for axes, table, title, label in (
        (left, losses, "Final runs: loss on labels", "loss on labels"),
        (right, scores, "Chosen trials: validation mAP", "validation mAP (%)"),
    ):
        for row, part in table.groupby("row", sort=False):
            mean = part.groupby("epoch")["value"].agg(["mean", "std"])
            line = axes.plot(mean.index, mean["mean"], **styles[str(row)])
            low, high = mean["mean"] - mean["std"], mean["mean"] + mean["std"]
            color = styles[str(row)]["color"]
            band = axes.fill_between(mean.index, low, high, color=color, alpha=0.12, linewidth=0)
            last = f"{mean['mean'].iloc[-1]:.3g} after epoch {mean.index[-1]}"
            mark([line, band], str(row), f"{row}: {label.removesuffix(' (%)')} {last}")
        axes.set(xlabel="epoch", ylabel=label)
        axes.set_title(title, loc="left", fontsize=9)
        plain(axes)
        if table.empty:
            axes.text(0.5, 0.5, "nothing recorded", ha="center", transform=axes.transAxes, fontsize=SMALL)
    drawn = {*losses["row"], *scores["row"]}
    legend_of_rows(drawing, [row for row in styles if row in drawn], styles)
    lines = [
        "Loss on labels: classification and regression loss, which all rows have; mean over seeds, band: "
        "± standard deviation. Validation: the trial whose settings were chosen."
    ]
    caption(drawing, f"{notes.title(study)}: training", lines, notes.source(study))
    return drawing


def _curves(study: ReportData, *, final: bool) -> pd.DataFrame:
    """Return row, epoch and value: loss on labels of final runs, or validation mAP of the chosen trial."""
    lines = []
    for row in study.rows:
        for run in row.results if final else row.chosen:
            for epoch in run.history:
                value = epoch.losses.get(LABEL_LOSS) if final else epoch.validation_map
                if value is not None:
                    lines.append((row.name, epoch.epoch, value))
    return pd.DataFrame(lines, columns=["row", "epoch", "value"])


def tuning_figure(study: ReportData) -> Figure | None:
    """Draw the validation mAP of all trials and the best so far, one panel per row; None without trials."""
    tables = _tables(study)
    if not tables:
        return None
    drawing = new_figure(WIDTH, 1.75 * -(-len(tables) // COLUMNS) + 1.3)
    panels = drawing.subplots(-(-len(tables) // COLUMNS), COLUMNS, sharex=True, sharey=True, squeeze=False)
    for axes, (row, table) in zip(panels.flat, tables.items(), strict=False):
        _history(axes, row, table)
        axes.set_title(name(row, PANEL_TITLE), loc="left", fontsize=9)
    for axes in panels.flat[len(tables) :]:
        axes.set_axis_off()
    drawing.supylabel("validation mAP (%)", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("trial")
    lines = [
        "Filled: finished trials. Crosses: pruned trials at their last evaluation. Line: best so far. "
        "Trial 0 uses the default settings of the row."
    ]
    caption(drawing, f"{notes.title(study)}: tuning", lines, notes.source(study))
    return drawing


def _tables(study: ReportData) -> dict[str, pd.DataFrame]:
    tables = {row.name: trial_table(row) for row in study.rows if row.trials}
    return {name: table for name, table in tables.items() if table["map"].notna().any()}


def _history(axes: Axes, row: str, table: pd.DataFrame) -> None:
    from matplotlib.ticker import MaxNLocator

    best = axes.step(table["number"], table["best"], where="post", color=BLUE, linewidth=1.2)
    mark(best, row)
    for status, marker, color, size in (("finished", "o", BLACK, 4), ("pruned", "x", RED, 5)):
        for trial in table[table["status"] == status].to_dict("records"):
            dot = axes.plot(trial["number"], trial["map"], marker, color=color, markersize=size)
            mark(dot, row, f"{row}, trial {trial['number']}, {status}: {_settings_text(trial)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(-0.5, max(len(table) - 0.5, 1.5))
    plain(axes)


def _settings_text(trial: Mapping[Hashable, Any]) -> str:
    """Return mAP and settings of a trial as text."""
    settings = [f"{key} {trial[key]:.3g}" for key in list(trial)[4:] if pd.notna(trial[key])]
    return ", ".join([f"validation mAP {trial['map']:.1f}", *map(str, settings)])


def importances_figure(study: ReportData) -> Figure | None:
    """Draw the importances of settings (rows × settings); None if there are too few trials."""
    import seaborn

    tables = _tables(study)
    shares = {name: importances(table) for name, table in tables.items()}
    shares = {name: share for name, share in shares.items() if share}
    if not shares:
        return None
    table = merged_weights(100 * pd.DataFrame(shares).reindex(_varied(tables)).dropna(how="all").T)
    heads = [column_name(setting, COLUMN) for setting in table.columns]
    height = 0.32 * len(table) + 1.87 + 0.13 * max(head.count("\n") for head in heads)
    drawing = new_figure(max(COLUMN * table.shape[1] + 2.6, 7.5), height)
    axes = drawing.subplots()
    seaborn.heatmap(
        table,
        ax=axes,
        cmap="Blues",
        vmin=0,
        vmax=100,
        annot=True,
        fmt=".0f",
        annot_kws={"fontsize": SMALL},
        cbar=False,
        linewidths=0.6,
        xticklabels=False,
        yticklabels=False,
    )
    axes.xaxis.tick_top()
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, heads, rotation=0)
    axes.set_yticks(np.arange(len(table)) + 0.5, [name(row) for row in table.index])
    axes.set(xlabel="", ylabel="")
    axes.tick_params(labelsize=SMALL, length=0)
    axes.tick_params(axis="y", rotation=0)
    counts = sorted({int((tables[name]["status"] == "finished").sum()) for name in shares})
    trials = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    lines = [
        f"Share (%) of the variance of validation mAP that a setting explains (fANOVA, {trials} finished "
        f"trials per row, minimum {MIN_TRIALS}). With fewer than about 30 trials the shares are unreliable. "
        "Empty: not varied in this row."
    ]
    if OWN_WEIGHTS in table:
        lines.append(f"{OWN_WEIGHTS.capitalize()}: of terms that a single row has, added.")
    caption(drawing, f"{notes.title(study)}: importance of settings", lines, notes.source(study))
    return drawing


def merged_weights(shares: pd.DataFrame) -> pd.DataFrame:
    """Add up the weights that a single row varies, in one column, if there are too many settings.

    Args:
        shares: Importances in percent, rows × settings; NaN where a row does not vary a setting.
    """
    own = [name for name in shares if str(name).startswith("weight/") and shares[name].notna().sum() == 1]
    if len(shares.columns) <= MAX_SETTINGS or len(own) < 2:
        return shares
    return shares.drop(columns=own).assign(**{OWN_WEIGHTS: shares[own].sum(axis=1, min_count=1)})


def slices_figure(study: ReportData) -> Figure | None:
    """Draw validation mAP against the value of each setting for all trials; None without trials."""
    tables = _tables(study)
    names = _varied(tables)
    if not names:
        return None
    styles, columns = line_styles(study.rows), min(4, len(names))
    markers = {row: styles.get(row, {"color": GREY}) | {"linestyle": "none"} for row in tables}
    drawing = new_figure(WIDTH, 2.0 * -(-len(names) // columns) + 1.3)
    panels = drawing.subplots(-(-len(names) // columns), columns, sharey=True, squeeze=False)
    for axes, setting in zip(panels.flat, names, strict=False):
        _slice(axes, tables, setting, markers)
    for axes in panels.flat[len(names) :]:
        axes.set_axis_off()
    drawing.supylabel("validation mAP (%)", fontsize=9)
    legend_of_rows(drawing, [row for row, table in tables.items() if set(table) & set(names)], markers)
    lines = ["Finished trials; other settings vary along with the one shown."]
    caption(drawing, f"{notes.title(study)}: validation mAP by setting", lines, notes.source(study))
    return drawing


def _varied(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    return list(dict.fromkeys(name for table in tables.values() for name in table.columns[4:]))


def _slice(axes: Axes, tables: Mapping[str, pd.DataFrame], setting: str, styles: Mapping[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    columns = []
    for row, table in tables.items():
        if setting not in table:
            continue
        part = table[table["status"] == "finished"]
        columns.append(part[setting])
        dots = axes.plot(part[setting], part["map"], **styles[row])
        mark(dots, row, row)
    if is_logarithmic(pd.concat(columns)):
        _log_axis(axes, pd.concat(columns))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.set_title(name(setting, PANEL_TITLE), loc="left", fontsize=SMALL)
    plain(axes)
    axes.tick_params(axis="x", labelsize=TINY)


def _log_axis(axes: Axes, values: pd.Series) -> None:
    """Set a logarithmic axis with few tick labels without exponents."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    axes.set_xscale("log")
    low, high = np.log10(values.min()), np.log10(values.max())
    grid = [b * 10.0**d for d in range(int(np.floor(low)), int(np.ceil(high)) + 1) for b in (1, 2, 5)]
    inside = [tick for tick in grid if values.min() * 0.95 <= tick <= values.max() * 1.05]
    ticks = [t for t in inside if f"{t:e}"[0] == "1"] if len(inside) > 4 else inside
    axes.xaxis.set_major_locator(
        FixedLocator(ticks if len(ticks) > 1 else inside[:: max(len(inside) // 3, 1)])
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _has_trials(study: ReportData) -> bool:
    return any(row.trials for row in study.rows)


FIGURES = (
    FigureDeclaration(
        "training", "Training", "Loss on labels and validation mAP over epochs.", training_figure
    ),
    FigureDeclaration("tuning", "Settings", "Validation mAP of all trials.", tuning_figure, _has_trials),
    FigureDeclaration(
        "slices", "Settings", "Validation mAP against each setting.", slices_figure, _has_trials
    ),
    FigureDeclaration(
        "importances",
        "Settings",
        "Importances of settings for validation mAP.",
        importances_figure,
        _has_trials,
    ),
)
