"""A sparse graph with weights: its parts, and itself with fewer nodes, much as

G. Karypis, V. Kumar: A Fast and High Quality Multilevel Scheme for Partitioning Irregular Graphs. SIAM Journal
on Scientific Computing, 1998.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Links(NamedTuple):
    """A graph of K nodes by its edges, each from both its ends: M pairs in the order of `first`, then `second`.

    What joins a node with itself, as where it stands for several, is in there once, with twice its weight.
    """

    first: Int[np.ndarray, " M"]
    second: Int[np.ndarray, " M"]
    weight: Float[np.ndarray, " M"]

    @staticmethod
    def summed(
        first: Int[np.ndarray, " m"],
        second: Int[np.ndarray, " m"],
        weight: Float[np.ndarray, " m"],
        num_nodes: int,
    ) -> Links:
        """Of pairs that may come several times."""
        pairs, place = np.unique(first * num_nodes + second, return_inverse=True)
        return Links(pairs // num_nodes, pairs % num_nodes, np.bincount(place, weight, len(pairs)))

    def among(self, part: Int[np.ndarray, " n"], num_nodes: int) -> Links:
        """Of some nodes, which are counted anew."""
        row = np.full(num_nodes, -1)
        row[part] = np.arange(len(part))
        first, second = row[self.first], row[self.second]
        within = (first >= 0) & (second >= 0)
        return Links(first[within], second[within], self.weight[within])

    def parts(self, num_nodes: int) -> list[Int[np.ndarray, " n"]]:
        """The nodes of each part that nothing links with the others, by their first ones."""
        lowest = np.arange(num_nodes)
        while True:
            before = lowest.copy()
            np.minimum.at(lowest, self.first, before[self.second])
            lowest = lowest[lowest]
            if (lowest == before).all():
                break
        order = np.argsort(lowest, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(lowest[order])) + 1)

    def contracted(self, num_nodes: int, most: int) -> tuple[Links, Int[np.ndarray, " n"]]:
        """Nodes that are each other's most linked counted as one, until no more are left than that, or linked.

        With of each node what it is counted as. Links are compared per node on either side, lest one grows
        and takes all the others.
        """
        links, of_node, size = self, np.arange(num_nodes), np.ones(num_nodes)
        while len(size) > most:
            other = links.first != links.second
            first, second = links.first[other], links.second[other]
            strength = links.weight[other] / (size[first] * size[second])
            order = np.lexsort((second, -strength, first))
            begins = np.flatnonzero(np.diff(first[order], prepend=-1))
            best = np.arange(len(size))
            best[first[order[begins]]] = second[order[begins]]
            into = np.where(
                best[best] == np.arange(len(size)), np.minimum(best, np.arange(len(size))), np.arange(len(size))
            )
            named, into = np.unique(into, return_inverse=True)
            if len(named) == len(size):
                break
            links = Links.summed(into[links.first], into[links.second], links.weight, len(named))
            size = np.bincount(into, size)
            of_node = into[of_node]
        return links, of_node
