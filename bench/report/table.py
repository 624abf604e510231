# SPDX-License-Identifier: BSD-2-Clause
"""Figures for people: numbers with three digits that count, and columns that line up."""
from bench.workloads.base import P50, P99

DASH = "-"


def number(value):
    """Three significant digits, with k and M for thousands and millions."""
    if value is None:
        return DASH
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return _digits(value / size) + suffix
    return _digits(value)


def _digits(value):
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    if abs(value) >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def times(value):
    return DASH if value is None else f"{_digits(value)}x"


def share(series):
    """The part of the bytes that went through rings."""
    ring, tcp = series.evidence("ring_bytes"), series.evidence("tcp_bytes")
    if ring is None or tcp is None or ring + tcp == 0:
        return DASH
    # Never round up to "all": one byte by TCP must show.
    return f"{int(1000 * ring / (ring + tcp)) / 10:g} %"


def percentile(series, metric):
    return number(series.median(metric)) if series and metric in series.workload.metrics else DASH


def print_rows(rows, widths, out, left=2):
    for row in rows:
        cells = [cell.ljust(width) if i < left else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip(), file=out, flush=True)


HEADER = ("workload", "peer", "value", "unit", "min..max", "x tcp", "x limit", "p50 us", "p99 us", "p50 x tcp",
          "streams", "by ring", "cpu us/op", "repeats")
WIDTHS = (18, 7, 6, 4, 13, 6, 7, 6, 6, 9, 7, 7, 9, 7)


def series_row(series, all_series):
    """The row of one workload and peer in the table of bench/run."""
    metric = series.workload.metrics[0]
    values = series.values(metric)
    if not values:
        return None

    def against(name, other=metric):
        base = all_series.get(name)
        if base is None or other not in series.workload.metrics:
            return DASH
        return times(other.ratio(series.median(other), base.median(other)))
    return (series.workload.name, series.peer.name, number(series.median(metric)), metric.unit,
            f"{number(min(values))}..{number(max(values))}", against("tcp"), against("limit"),
            percentile(series, P50), percentile(series, P99), against("tcp", P50),
            str(series.evidence("streams")), share(series), number(series.cpu_us_each()),
            str(series.repeats) + ("!" * bool(series.disturbed)))
