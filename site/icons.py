"""The parts of the loop, and a cockpit, small: what a card of the front page is about."""

from rlhf_lab import loop_drawing, theme


def icon(part: str) -> str:
    """A part of the loop, "π" for all of it, or a cockpit; within ±1 in the colours of `theme`."""
    pen = '<g fill="none" stroke-linecap="round" stroke-linejoin="round" stroke-width=".13">{}</g>'
    box = (
        '<rect x="{}" y="{}" width="{}" height="{}" rx=".22" fill="var(--{})" stroke="var(--{})"/>'
    )
    rope = '<path d="M-.75-.62Q-.15 .75 .62 .1" stroke="var(--leash-{})" stroke-width="{}"/>'
    shapes = {
        "π": pen.format(
            '<circle r=".92" fill="var(--bg)" stroke="var(--ink)"/>'
            '<path d="M-.46-.28H.46M-.2-.28V.4M.18-.28V.26q0 .16 .18 .12" stroke="var(--ink)"/>'
        ),
        "writes": pen.format(
            box.format(-0.92, -0.66, 1.84, 1.32, "bg", "ink")
            + '<path d="M-.5-.2H.5M-.5 .22H.1" stroke="var(--ghost)"/>'
        ),
        "judge": theme.gauge(loop_drawing.SCORE),
        "paid": pen.format(
            box.format(-0.92, 0, 0.8, 0.8, "sunk", "ghost")
            + box.format(0.12, 0, 0.8, 0.8, "leash-tint", "leash-dark")
            + '<circle cx=".52" cy="-.45" r=".42" fill="var(--score-tint)" stroke="var(--score)"/>'
        ),
        "moves": pen.format(
            '<path d="M.8-.6V.05a.4.4 0 0 1 -.4 .4H-.8M-.42 .07L-.8 .45L-.42 .83" '
            'stroke="var(--liked)" stroke-width=".18"/>'
        ),
        "rope": pen.format(
            '<path d="M-.75 .85V-.8M-.95 .85h.4" stroke="var(--ink)" stroke-width=".2"/>'
            + rope.format("dark", 0.34)
            + rope.format("fill", 0.18)
            + '<circle cx=".74" cy=".1" r=".18" fill="var(--bg)" stroke="var(--leash-dark)"/>'
        ),
        "cockpit": pen.format(
            '<path d="M-.9-.5H.9M-.9 .5H.9" stroke="var(--ghost)"/>'
            '<circle cx=".36" cy="-.5" r=".36" fill="var(--bg)" stroke="var(--leash-dark)"/>'
            '<circle cx="-.36" cy=".5" r=".36" fill="var(--bg)" stroke="var(--many)"/>'
        ),
        "readers": theme.face(loop_drawing.GOLD),
    }
    return shapes[part]
