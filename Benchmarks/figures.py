"""How figures are put together: medians with their spread, ratios round by round, and bars that are met or not."""
import statistics


def number(value):
    """Three digits, or all before the point; a count as it is."""
    if isinstance(value, int) or abs(value) >= 99.95:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def cell(values, unit=""):
    """`median (least…greatest) unit`."""
    values = list(values)
    text = number(statistics.median(values))
    if len(values) > 1:
        text += f" ({number(min(values))}…{number(max(values))})"
    return f"{text} {unit}".rstrip()


def ratios(ours, theirs):
    """Of each round to what was measured beside it."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def median_ratio(ours, theirs):
    return statistics.median(ratios(ours, theirs))


def at_most(name, limit, value, unit=""):
    return _bar(name, "≤", limit, value, unit, value <= limit)


def at_least(name, limit, value, unit=""):
    return _bar(name, "≥", limit, value, unit, value >= limit)


def _bar(name, sign, limit, value, unit, is_met):
    if limit == 0:
        distance = ""
    elif value > 2 * limit:
        distance = f"{number(value / limit)} times the bar"
    else:
        distance = f"{abs(value / limit - 1) * 100:.0f} % {'above' if value > limit else 'below'} the bar"
    return {"name": name, "bar": f"{sign} {number(limit).removesuffix('.00')} {unit}".rstrip(), "value": f"{number(value)} {unit}".rstrip(), "met": is_met, "distance": distance}


def rounded(value):
    """For results.json: four digits are more than such a measurement is good for."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {str(name): rounded(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(member) for member in value]
    return value


def line(found, values):
    """A series of a plot: the keys of `found` over the medians of `values(found[key])`, with their spread."""
    ys = [list(values(one)) for one in found.values()]
    return {"x": list(found), "y": [statistics.median(y) for y in ys], "low": [min(y) for y in ys], "high": [max(y) for y in ys]}


def columns(results):
    """[{name: value}] of rounds as {name: [value]}."""
    return {name: [result[name] for result in results] for name in results[0]}
