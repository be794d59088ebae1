# SPDX-License-Identifier: Apache-2.0
"""Figures of the benchmarks that run inside the rigs: JSON lines like bench.h's, as TAP diagnostics."""

import json
import statistics

import tap

RUNS = 20


def samples(benchmark, peer, unit, values, **more):
    """The median of values, which are in the order in which they were taken."""
    ordered = sorted(values)
    tap.diag(json.dumps({"benchmark": benchmark, "peer": peer, "unit": unit,
                         "median": round(statistics.median(ordered), 3), "min": round(ordered[0], 3),
                         "p90": round(ordered[len(ordered) * 9 // 10], 3), "runs": len(ordered), **more}))


def value(benchmark, peer, unit, number, **more):
    """A figure that is not sampled."""
    tap.diag(json.dumps({"benchmark": benchmark, "peer": peer, "unit": unit, "value": number, **more}))
