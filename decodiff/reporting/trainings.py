"""Which scopes of a run train a network on one category alone, and which on several together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# how tables call the scopes of one category each, taken together; no scope can have this name
PER_CATEGORY = "per category"

# by scope and data set; no categories stand for all that the user's folder turns out to hold
Members = Mapping[str, Mapping[str, Sequence[str]]]


def own_networks(members: Members) -> dict[tuple[str, str], str]:
    """The scope of each (data set, category) that has a network of its own, the first if there are several."""
    found: dict[tuple[str, str], str] = {}
    for scope, datasets in members.items():
        if [len(categories) for categories in datasets.values()] == [1]:
            (dataset, (category,)) = next(iter(datasets.items()))
            found.setdefault((dataset, category), scope)
    return found


def compared(members: Members) -> dict[tuple[str, str], list[str]]:
    """Of each (data set, scope) under a network of several categories, those that have a network of their own as well.

    There is at least one of them. A folder of the user's holds at least the categories that have a network of their own.
    """
    own = own_networks(members)
    found = {}
    for scope, datasets in members.items():
        held = {name: categories or [category for of, category in own if of == name] for name, categories in datasets.items()}
        if sum(max(1, len(categories)) for categories in held.values()) > 1:
            for dataset, categories in held.items():
                if both := [category for category in categories if (dataset, category) in own]:
                    found[dataset, scope] = both
    return found
