"""Lines of LearningRateDisplay from the `cv_results_` of a search."""

import re
from numbers import Real

import numpy as np
from sklearn.base import is_classifier, is_regressor

RATES = ("learning_rate", "eta0", "learning_rate_init")  # parameters that are rates, by their last name


def lines_of_search(cv_results, metric, rate):
    """What a LearningRateDisplay stores, as a dict; parameters as in its `from_cv_results`."""
    metric = _metric(cv_results, metric)
    scores = _splits(cv_results, f"test_{metric}")
    losses = _splits(cv_results, "final_loss")
    if "divergence" in cv_results:  # whatever number the search gave to what diverged
        diverged = np.array([bool(reason) for reason in cv_results["divergence"]])
        scores[diverged] = np.nan
    params = list(cv_results["params"])
    rate = _rate_parameter(params, rate)
    others = _varied(params, without=rate)

    lines, references = {}, {}
    for row, candidate in enumerate(params):
        value = candidate.get(rate)
        name = ", ".join(f"{_short(key)}={_text(candidate[key])}" for key in others if key in candidate)
        if isinstance(value, Real) and not isinstance(value, bool):
            lines.setdefault(name, {})[float(value)] = row
        elif value is not None:
            label = f'{_short(rate)}="{value}"' + (f", {name}" if name else "")
            references[label] = float(np.mean(scores[row]))
    rows = [[line[value] for value in sorted(line)] for line in lines.values()]
    return dict(
        learning_rates=[np.array(sorted(line)) for line in lines.values()],
        scores=[scores[r] for r in rows],
        final_losses=None if losses is None else [losses[r] for r in rows],
        names=list(lines) if any(lines) else None,
        references=references or None,
        score_name=metric,
        rate_name=_short(rate),
    )


def _short(name):
    """Name of a parameter without the steps of a pipeline."""
    return name.rsplit("__", 1)[-1]


def _text(value):
    return f"{value:.4g}" if isinstance(value, Real) and not isinstance(value, bool) else str(value)


def _metric(cv_results, metric):
    known = dict.fromkeys(
        match[1] for key in cv_results if (match := re.fullmatch(r"split\d+_test_(.+)", key)) is not None
    )
    if not known:
        raise ValueError("cv_results has no scores of folds: there is no key like 'split0_test_score'.")
    if metric is None and len(known) == 1:
        return next(iter(known))
    if metric not in known:
        raise ValueError(f"metric={metric!r} is none of the scorers: choose from {list(known)}.")
    return metric


def _splits(cv_results, name):
    """Values of the folds, shape (n_candidates, n_folds), or None where there are none."""
    found = {
        int(match[1]): np.asarray(cv_results[key], dtype=float)
        for key in cv_results
        if (match := re.fullmatch(rf"split(\d+)_{re.escape(name)}", key)) is not None
    }
    return np.column_stack([found[fold] for fold in sorted(found)]) if found else None


def _rate_parameter(params, rate):
    """The parameter that is a learning rate, with numeric values; of several, the one with most of them."""
    counts = {}
    for candidate in params:
        for key, value in candidate.items():
            if isinstance(value, Real) and not isinstance(value, bool):
                counts.setdefault(key, set()).add(value)
    if rate is not None:
        if rate not in counts:
            raise ValueError(f"The search has no numeric values of {rate!r}, only of {sorted(counts)}.")
        return rate
    rates = {key: len(values) for key, values in counts.items() if _short(key) in RATES}
    if not rates:
        raise ValueError(
            "The search is not over a learning rate: none of its parameters "
            f"{sorted({key for candidate in params for key in candidate})} is learning_rate or eta0 with "
            "numeric values. Name another one by rate=."
        )
    return max(rates, key=rates.get)


def _varied(params, without):
    """The other parameters with more than one value, in their order."""
    keys = dict.fromkeys(key for candidate in params for key in candidate if key != without)
    return [key for key in keys if len({str(candidate.get(key)) for candidate in params}) > 1]


def score_name_of(search, metric):
    """What the scores of a search are called."""
    if metric is not None:
        return metric
    if isinstance(search.scoring, str):
        return search.scoring
    if search.scoring is None and is_regressor(search.estimator):
        return "score (R²)"
    if search.scoring is None and is_classifier(search.estimator):
        return "score (accuracy)"
    return "score"
