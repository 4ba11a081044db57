"""Numbers of a sample, without interpolation between what was measured."""
import math
import statistics


def quantile(values, q):
    """The smallest measured value that at least the fraction q of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)]


def summary(values):
    """n, median, p10, p90 and the values in their order."""
    return {"n": len(values), "median": statistics.median(values), "p10": quantile(values, 0.1),
            "p90": quantile(values, 0.9), "raw": [round(value, 4) for value in values]}


def rounds(values_of_rounds):
    """As summary, over all rounds, with `drift`: the spread of the rounds' medians as a fraction of the median, which
    says how far two runs of the same thing differ."""
    made = summary([value for values in values_of_rounds for value in values])
    medians = [statistics.median(values) for values in values_of_rounds]
    made["raw"] = [[round(value, 4) for value in values] for values in values_of_rounds]
    made["drift"] = (max(medians) - min(medians)) / made["median"]
    return made


def ratio(rounds_a, rounds_b):
    """a / b: of the medians over all rounds, and the lowest and highest of the single rounds."""
    single = [statistics.median(a) / statistics.median(b) for a, b in zip(rounds_a, rounds_b)]
    flat_a = statistics.median([value for values in rounds_a for value in values])
    flat_b = statistics.median([value for values in rounds_b for value in values])
    return {"median": flat_a / flat_b, "low": min(single), "high": max(single)}
