"""Charts as SVG without scripts; the colors are those of the style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from dbctl.report_page.elements import Html, element
from dbctl.services.report.result import Activity

#: Units of the coordinates; the style sheet sets the size.
_LINE_WIDTH, _LINE_HEIGHT = 300.0, 64.0
_BAR_WIDTH, _BAR_HEIGHT = 960.0, 130.0
_MARGIN = 4.0


def draw_line(points: Sequence[tuple[datetime, int]], *, key: str, title: str, description: str) -> Html:
    """Return a line through at least two points over time, with the area below it.

    Args:
        points: times, increasing, and values.
        key: makes the ids of the page unique.
        title: what it shows.
        description: its figures, for readers that do not see it.
    """
    values = [value for _, value in points]
    least, largest = min(values), max(values)
    begin, period = points[0][0], max((points[-1][0] - points[0][0]).total_seconds(), 1.0)
    height = _LINE_HEIGHT - 2 * _MARGIN
    coordinates = [
        (
            _MARGIN + (_LINE_WIDTH - 2 * _MARGIN) * (at - begin).total_seconds() / period,
            _LINE_HEIGHT / 2
            if least == largest
            else _MARGIN + height * (1 - (value - least) / (largest - least)),
        )
        for at, value in points
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in coordinates)
    (first_x, _), (last_x, last_y) = coordinates[0], coordinates[-1]
    area = f"{path}L{last_x:.1f} {_LINE_HEIGHT:.0f}L{first_x:.1f} {_LINE_HEIGHT:.0f}Z"
    return _create_svg(
        element("path", d=area, class_="area"),
        element("path", d=path, class_="curve"),
        element("circle", cx=f"{last_x:.1f}", cy=f"{last_y:.1f}", r=3, class_="dot"),
        size=(_LINE_WIDTH, _LINE_HEIGHT),
        key=key,
        title=title,
        description=description,
    )


def draw_bars(activity: Sequence[Activity], interval: timedelta, *, key: str) -> Html:
    """Return one bar per period, with failed runs at its base."""
    largest = max((period.succeeded + period.failed for period in activity), default=0) or 1
    step = _BAR_WIDTH / max(len(activity), 1)
    width, bars = max(step - 3, 1.0), list[Html]()
    unit = (_BAR_HEIGHT - 2) / largest
    for index, period in enumerate(activity):
        x, failed, total = index * step, period.failed * unit, (period.failed + period.succeeded) * unit
        text = f"{period.begin:%Y-%m-%d}: {period.succeeded} succeeded, {period.failed} failed"
        bars.append(
            element(
                "g",
                element("title", text),
                _draw_bar(x, width, _BAR_HEIGHT - failed, failed, "failed"),
                _draw_bar(x, width, _BAR_HEIGHT - total, total - failed, "succeeded"),
            )
        )
    succeeded, failures = (sum(getattr(p, name) for p in activity) for name in ("succeeded", "failed"))
    return _create_svg(
        element("line", x1=0, x2=_BAR_WIDTH, y1=_BAR_HEIGHT, y2=_BAR_HEIGHT, class_="axis"),
        *bars,
        size=(_BAR_WIDTH, _BAR_HEIGHT),
        key=key,
        title=f"Runs per {'day' if interval.days == 1 else f'{interval.days} days'}",
        description=f"{succeeded} runs succeeded, {failures} failed; at most {largest} in one period",
        stretch=True,
    )


def _draw_bar(x: float, width: float, y: float, height: float, kind: str) -> Html | None:
    if not height:
        return None
    return element(
        "rect", x=f"{x:.1f}", y=f"{y:.1f}", width=f"{width:.1f}", height=f"{height:.1f}", class_=kind
    )


def _create_svg(
    *children: Html,
    size: tuple[float, float],
    key: str,
    title: str,
    description: str,
    stretch: bool = False,
) -> Html:
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-text"),
        *children,
        viewBox=f"0 0 {size[0]:.0f} {size[1]:.0f}",
        role="img",
        aria_labelledby=f"{key}-title {key}-text",
        preserveAspectRatio="none" if stretch else None,
        class_="bars" if stretch else "line",
    )
