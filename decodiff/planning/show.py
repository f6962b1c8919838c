"""A plan as a person reads it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from decodiff.planning.plan import STATED_SECONDS, Estimate, Plan
from decodiff.planning.room import Room, size

# numbers of GPUs for which the shortest time is told
DEVICES = (1, 8, 64)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter: "3 d 4 h", "2 h 05 min", "41 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def summary(plan: Plan, kind: str = "GPU") -> str:
    """One line: number of jobs, hours on the ``kind`` of device that networks compute on, critical path."""
    networks = sum(item.job.computes_with_networks for item in plan.estimates)
    longest = plan.critical_path[-1].end if plan.estimates else 0
    return (
        f"{len(plan.estimates)} jobs, {networks} of them with networks: {plan.network_seconds / 3600:.1f} {kind} hours; "
        f"critical path {duration(longest)}"
    )


def _by_rule(plan: Plan) -> Table:
    table = Table("rule", "jobs", "together", "longest", "reckoned from", box=None, pad_edge=False)
    for column in table.columns[1:4]:
        column.justify = "right"
    rules: dict[str, list[Estimate]] = {}
    for item in plan.estimates:
        rules.setdefault(item.job.rule, []).append(item)
    for rule, items in sorted(rules.items(), key=lambda pair: -sum(item.seconds for item in pair[1])):
        seconds = [item.seconds for item in items]
        sources = " and ".join(sorted({item.source for item in items}))
        table.add_row(rule, str(len(items)), duration(sum(seconds)), duration(max(seconds)), sources)
    return table


def show(plan: Plan, unknown: set[str], room: Room, operations: float) -> None:
    """Print it: a line per rule, the critical path, the shortest time with some numbers of GPUs, disk and memory."""
    console = Console(highlight=False, soft_wrap=True)
    if not plan.estimates:
        console.print("nothing to do")
        return
    console.print(_by_rule(plan))
    console.print(f"\n{summary(plan)}")
    chain = " → ".join(f"{item.job.name} ({duration(item.seconds)})" for item in plan.critical_path)
    console.print(f"critical path: {chain}", markup=False)
    shortest = ", ".join(f"{duration(plan.seconds_on(devices))} on {devices}" for devices in DEVICES)
    console.print(f"with so many GPUs at least: {shortest}")
    for disk in room.disks:
        console.print(f"disk below {', '.join(disk.folders)}: {size(disk.needed)} needed, {size(disk.free)} free")
    console.print(f"memory: {size(room.memory)} or more for {room.job}, {size(room.there)} here", markup=False)
    if any(item.source == "stated" for item in plan.estimates):
        console.print(
            f"stated: {operations:.3g} operations a second for networks (--operations), some images a second for rules on "
            f"data, {STATED_SECONDS} s for any other job; measured: what jobs of the rule took here"
        )
    for name in sorted(unknown):
        console.print(f"{name}: its number of images is not known yet and counts as none; data/{name}/manifest.csv will say it")
