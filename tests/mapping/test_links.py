"""Parts and contractions of sparse graphs, against the same by brute force."""

from __future__ import annotations

import numpy as np
import pytest

from dsac.mapping.links import Links


def _random(num_nodes: int, num_edges: int, seed: int) -> Links:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, num_nodes, (2, num_edges))
    a, b, weight = a[a != b], b[a != b], rng.random(num_edges)[a != b]
    return Links.summed(np.concatenate([a, b]), np.concatenate([b, a]), np.tile(weight, 2), num_nodes)


def _dense(links: Links, num_nodes: int) -> np.ndarray:
    dense = np.zeros((num_nodes, num_nodes))
    dense[links.first, links.second] = links.weight
    return dense


def test_pairs_that_come_twice_are_summed():
    links = Links.summed(np.array([1, 0, 1]), np.array([0, 2, 0]), np.array([0.5, 1.0, 0.25]), 3)
    assert links.first.tolist() == [0, 1] and links.second.tolist() == [2, 0]
    assert links.weight.tolist() == [1.0, 0.75]


@pytest.mark.parametrize("num_edges", [0, 10, 30, 60])
def test_parts_are_what_can_be_reached(num_edges):
    links = _random(40, num_edges, seed=num_edges)
    reach = np.linalg.matrix_power((_dense(links, 40) > 0) + np.eye(40), 40) > 0
    expected = sorted({tuple(np.flatnonzero(row).tolist()) for row in reach})
    assert [tuple(part.tolist()) for part in links.parts(40)] == expected


def test_a_long_chain_is_one_part():
    a = np.arange(5000)
    links = Links.summed(np.r_[a, a + 1], np.r_[a + 1, a], np.ones(10000), 5001)
    assert [len(part) for part in links.parts(5001)] == [5001]


def test_links_among_some_are_those_of_the_matrix():
    links, part = _random(30, 90, seed=1), np.array([3, 4, 8, 20, 29])
    np.testing.assert_array_equal(_dense(links.among(part, 30), 5), _dense(links, 30)[np.ix_(part, part)])


def test_contracted_links_are_sums_over_what_is_counted_as_one():
    links = _random(200, 500, seed=2)
    fewer, of_node = links.contracted(200, 30)
    member = np.eye(of_node.max() + 1)[of_node]
    assert set(of_node.tolist()) == set(range(member.shape[1]))
    assert member.shape[1] <= 30 or all(len(part) == 1 for part in fewer.parts(member.shape[1]))
    np.testing.assert_allclose(
        _dense(fewer, member.shape[1]), member.T @ _dense(links, 200) @ member, atol=1e-12
    )


def test_what_is_linked_strongly_is_counted_as_one():
    """Pairs of a chain, joined alternately much and little."""
    a = np.arange(9)
    weight = np.where(a % 2 == 0, 1.0, 0.1)
    links = Links.summed(np.r_[a, a + 1], np.r_[a + 1, a], np.tile(weight, 2), 10)
    _, of_node = links.contracted(10, 5)
    assert of_node.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_few_nodes_and_unlinked_ones_stay_as_they_are():
    links = _random(10, 20, seed=3)
    for most, graph in ((10, links), (3, Links.summed(*np.zeros((2, 0), int), np.zeros(0), 10))):
        fewer, of_node = graph.contracted(10, most)
        assert of_node.tolist() == list(range(10))
        np.testing.assert_array_equal(_dense(fewer, 10), _dense(graph, 10))
