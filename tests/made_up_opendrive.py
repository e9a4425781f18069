"""A small OpenDRIVE map, written as text: a T-junction with lights, a spiral, a bend, a lane that opens."""

from __future__ import annotations

LANE = (
    '<lane id="{id}" type="{type}"><link>{link}</link>{width}'
    '<roadMark sOffset="0" type="{mark}" color="white"/></lane>'
)


def lane(index, kind="driving", width=3.5, before=None, after=None, mark="solid", slope=0.0):
    link = "" if before is None else f'<predecessor id="{before}"/>'
    link += "" if after is None else f'<successor id="{after}"/>'
    shape = f'<width sOffset="0" a="{width}" b="{slope}" c="0" d="0"/>' if index else ""
    return LANE.format(id=index, type=kind, link=link, width=shape, mark=mark)


def section(s, lanes):
    parts = {"left": [], "center": [], "right": []}
    for index, text in lanes:
        parts["left" if index > 0 else "right" if index < 0 else "center"].append(text)
    inner = "".join(f"<{side}>{''.join(texts)}</{side}>" for side, texts in parts.items() if texts)
    return f'<laneSection s="{s}">{inner}</laneSection>'


def road(index, length, geometries, sections, junction=-1, links="", signals="", objects="", rule="RHT"):
    return (
        f'<road id="{index}" length="{length}" junction="{junction}" rule="{rule}"><link>{links}</link>'
        '<type s="0" type="town"><speed max="30" unit="mph"/></type>'
        f"<planView>{geometries}</planView><lanes>{sections}</lanes>"
        f"<objects>{objects}</objects><signals>{signals}</signals></road>"
    )


def geometry(s, x, y, hdg, length, shape="<line/>"):
    return f'<geometry s="{s}" x="{x}" y="{y}" hdg="{hdg}" length="{length}">{shape}</geometry>'


def two_way(before=(None, None), after=(None, None)):
    """One lane each way; links of lanes (1, -1) at the start and the end."""
    return section(
        0,
        [
            (1, lane(1, before=before[0], after=after[0])),
            (0, lane(0, mark="broken")),
            (-1, lane(-1, before=before[1], after=after[1])),
        ],
    )


def document(*roads, rest=""):
    head = '<?xml version="1.0"?><OpenDRIVE><header revMajor="1" revMinor="4"/>'
    return f"{head}{''.join(roads)}{rest}</OpenDRIVE>"


def t_junction(rule="RHT"):
    """West and east arms along x, a southern stem; lights on all arms; connectors of one lane each."""
    arms = [
        road(1, 100, geometry(0, -110, 0, 0, 100), two_way(), rule=rule),  # ends at (-10, 0)
        road(2, 100, geometry(0, 10, 0, 0, 100), two_way(), rule=rule),  # starts at (10, 0)
        road(3, 100, geometry(0, 0, -110, 1.5707963267948966, 100), two_way(), rule=rule),
    ]
    quarter = 1.5707963267948966
    radius_right, radius_left = 10 - 1.75, 10 + 1.75

    def connector(index, text, links, before, after, signal):
        reference = (
            f'<signalReference id="{signal}" s="0.1" t="0" orientation="+">'
            '<validity fromLane="-1" toLane="-1"/></signalReference>'
        )
        lanes = section(
            0, [(0, lane(0, mark="none")), (-1, lane(-1, before=before, after=after, mark="none"))]
        )
        offset = '<laneOffset s="0" a="1.75" b="0" c="0" d="0"/>'
        return road(index, text[0], text[1], offset + lanes, 9, links, reference, rule=rule)

    def links(source, source_end, target, target_end):
        return (
            f'<predecessor elementType="road" elementId="{source}" contactPoint="{source_end}"/>'
            f'<successor elementType="road" elementId="{target}" contactPoint="{target_end}"/>'
        )

    connectors = [
        connector(11, (20, geometry(0, -10, -1.75, 0, 20)), links(1, "end", 2, "start"), -1, -1, 101),
        connector(12, (20, geometry(0, 10, 1.75, 2 * quarter, 20)), links(2, "start", 1, "end"), 1, 1, 102),
        connector(
            13,
            (
                radius_right * quarter,
                geometry(0, -10, -1.75, 0, radius_right * quarter, f'<arc curvature="{-1 / radius_right}"/>'),
            ),
            links(1, "end", 3, "end"),
            -1,
            1,
            101,
        ),
        connector(
            14,
            (
                radius_left * quarter,
                geometry(
                    0, 10, 1.75, 2 * quarter, radius_left * quarter, f'<arc curvature="{1 / radius_left}"/>'
                ),
            ),
            links(2, "start", 3, "end"),
            1,
            1,
            102,
        ),
        connector(
            15,
            (
                radius_right * quarter,
                geometry(
                    0, 1.75, -10, quarter, radius_right * quarter, f'<arc curvature="{-1 / radius_right}"/>'
                ),
            ),
            links(3, "end", 2, "start"),
            -1,
            -1,
            103,
        ),
    ]
    kinds = "".join(
        f'<signal id="{name}" s="1" t="5" type="1000001" orientation="+">'
        '<validity fromLane="0" toLane="0"/></signal>'
        for name in (101, 102, 103)
    )
    arms[0] = arms[0].replace("<signals></signals>", f"<signals>{kinds}</signals>")
    junction = '<junction id="9" name="t"></junction>'
    return document(*arms, *connectors, rest=junction)
