"""The series that a record gives to compare."""

from dataclasses import replace

import evidence
import numpy as np

from optstudy.posthoc.reproduce.recorded import final_series, trace_series


def test_a_verdict_that_no_rerun_can_have_is_compared_as_the_sign_that_it_tells() -> None:
    [one] = evidence.runs_of(("sgd",), 1)
    assert one.run.curvature is not None
    assert one.trace is not None
    earlier = replace(one.run.curvature, verdict="indefinite", sign="")
    words = np.array(["indefinite", "separated"] * 50), np.array(["opposite", ""] * 50)

    run = final_series(vars(replace(one.run, curvature=earlier)))
    trace = trace_series(replace(one.trace, verdict=words[0], sign=words[1]))

    assert "final/verdict" not in run
    assert run["final/sign"].values == "opposite"
    assert not {"eigen/verdict", "eigen/sign"} & trace.keys()
    assert {"eigen/verdict", "eigen/sign"} <= trace_series(one.trace).keys()
    assert "final/verdict" in final_series(vars(one.run))
