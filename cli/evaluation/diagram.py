"""Reliability diagrams as SVG, drawn by hand: no plotting library, no noise in diffs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cli.evaluation.figures import Bin

_SIZE = 220
_MARGIN = 36
_STYLE = (
    "text{font:11px sans-serif;fill:#555}.axis{stroke:#999;fill:none}"
    ".ideal{stroke:#bbb;stroke-dasharray:4 3}.line{stroke:#1f6feb;fill:none;stroke-width:1.5}"
    ".dot{fill:#1f6feb}"
)


def reliability_svg(panels: Mapping[str, Sequence[Bin]]) -> str:
    """A panel for each set: how much is real (up) of what is said to be (right).

    A dot's area follows the share of findings it stands for.
    """
    step = _SIZE + _MARGIN
    width, height = step * len(panels) + _MARGIN // 2, _SIZE + 2 * _MARGIN
    body = "".join(
        f'<g transform="translate({_MARGIN + number * step},{_MARGIN // 2})">{_panel(name, bins)}</g>'
        for number, (name, bins) in enumerate(panels.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{_STYLE}</style>{body}</svg>\n'
    )


def _panel(name: str, bins: Sequence[Bin]) -> str:
    points = [(_SIZE * one.said, _SIZE * (1 - one.real), one.share) for one in bins]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    dots = "".join(
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{2 + 14 * share**0.5:.1f}" '
        f'fill-opacity="0.6"/>'
        for x, y, share in points
    )
    ticks = "".join(
        f'<text x="{_SIZE * at - 6:.0f}" y="{_SIZE + 14}">{at:.1f}</text>'
        f'<text x="-22" y="{_SIZE * (1 - at) + 4:.0f}">{at:.1f}</text>'
        for at in (0.0, 0.5, 1.0)
    )
    return (
        f'<rect class="axis" width="{_SIZE}" height="{_SIZE}"/>'
        f'<line class="ideal" x1="0" y1="{_SIZE}" x2="{_SIZE}" y2="0"/>'
        f'<polyline class="line" points="{line}"/>{dots}{ticks}'
        f'<text x="{_SIZE // 2}" y="{_SIZE + 30}" text-anchor="middle">{name}</text>'
    )
