"""The tree of RFC 6962: the vectors of its public test suites, and the definition written out beside the fast one."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.usage import merkle, verify

# Inputs, roots and paths that the suites of Certificate Transparency share.
LINES = [
    bytes.fromhex(each)
    for each in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
}


def naive_root(lines: list[bytes]) -> bytes:
    """MTH of section 2.1, word for word."""
    if len(lines) < 2:
        return sha256(b"\0" + lines[0]).digest() if lines else sha256(b"").digest()
    k = 1 << (len(lines) - 1).bit_length() - 1
    return sha256(b"\1" + naive_root(lines[:k]) + naive_root(lines[k:])).digest()


def naive_path(index: int, lines: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.1, word for word."""
    if len(lines) == 1:
        return []
    k = 1 << (len(lines) - 1).bit_length() - 1
    if index < k:
        return [*naive_path(index, lines[:k]), naive_root(lines[k:])]
    return [*naive_path(index - k, lines[k:]), naive_root(lines[:k])]


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_the_public_suites_come_out(size: int):
    assert merkle.root(LINES[:size]).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), PATHS)
def test_the_audit_paths_of_the_public_suites_come_out(index: int, size: int):
    proof = merkle.prove(LINES[:size], index)
    assert [each.hex() for each in proof.path] == PATHS[index, size]
    assert proof.holds(LINES[index], bytes.fromhex(ROOTS[size]))


@given(st.lists(st.binary(max_size=3), max_size=70), st.lists(st.integers(0, 70), max_size=6))
def test_the_root_is_that_of_the_definition_however_the_lines_come(lines: list[bytes], cuts: list[int]):
    tree, rest = verify.Tree(), iter(lines)
    for cut in cuts:
        tree.add([verify.leaf(line) for line in islice(rest, cut)])
        tree.root()  # asked in between, it changes nothing
    tree.add([verify.leaf(line) for line in rest])
    assert tree.root() == naive_root(lines)


@pytest.mark.parametrize("size", [*range(1, 35), 63, 64, 65, 100])
def test_every_line_of_a_tree_is_proved_by_the_path_of_the_definition(size: int):
    lines = [b"%d" % number for number in range(size)]
    for index in range(size):
        proof = merkle.prove(lines, index)
        assert list(proof.path) == naive_path(index, lines)
        assert proof.holds(lines[index], naive_root(lines))


@given(st.data())
def test_a_leaf_that_is_met_late_is_proved_as_well(data: st.DataObject):
    lines = [b"%d" % number for number in range(data.draw(st.integers(1, 90)))]
    index = data.draw(st.integers(0, len(lines) - 1))
    begin = data.draw(st.integers(0, index))
    middle = data.draw(st.integers(index + 1, len(lines)))
    tree = verify.Tree()
    tree.add([verify.leaf(line) for line in lines[:begin]])
    tree.root()
    tree.watched = index
    tree.add([verify.leaf(line) for line in lines[begin:middle]])
    tree.path()
    tree.add([verify.leaf(line) for line in lines[middle:]])
    assert tree.path() == naive_path(index, lines)


@given(st.data())
def test_a_proof_holds_for_nothing_else(data: st.DataObject):
    lines = [b"%d" % number for number in range(data.draw(st.integers(2, 40)))]
    index = data.draw(st.integers(0, len(lines) - 1))
    root, proof = naive_root(lines), merkle.prove(lines, index)
    other = data.draw(st.integers(0, len(lines) - 1).filter(lambda at: at != index))
    changed = list(proof.path)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] = bytes([changed[at][0] ^ 1]) + changed[at][1:]
    assert not proof.holds(lines[other], root)
    assert not merkle.Proof(other, len(lines), proof.path).holds(lines[index], root)
    assert not merkle.Proof(index, len(lines), tuple(changed)).holds(lines[index], root)
    assert not merkle.Proof(index, len(lines), proof.path[:-1]).holds(lines[index], root)
    assert not merkle.Proof(index, len(lines), (*proof.path, root)).holds(lines[index], root)
    assert not merkle.Proof(index + len(lines), len(lines), proof.path).holds(lines[index], root)


def test_a_node_does_not_pass_for_a_line():
    left, right = (verify.leaf(line) for line in (b"a", b"b"))
    assert merkle.root([left + right]) != merkle.root([b"a", b"b"])


def test_a_line_that_is_not_there_is_not_proved():
    with pytest.raises(IndexError, match="no line 2 among 2"):
        merkle.prove([b"a", b"b"], 2)


@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 2047, 2048, 2049, 5000, 9001])
def test_ranges_are_at_most_1024_nodes_of_the_tree_that_cover_all_lines(size: int):
    lines = [b"%d" % number for number in range(size)]
    tree = verify.Tree()
    for begin in range(0, size, 777):
        tree.add([verify.leaf(line) for line in lines[begin : begin + 777]])
    width, ranges = tree.ranges()
    assert ranges == [naive_root(lines[at : at + width]).hex() for at in range(0, size, width)]
    assert size // width <= 1024
    assert width == 1 or size // (width // 2) > 1024


def test_a_root_takes_the_memory_of_one_branch():
    tracemalloc.start()
    merkle.root(b"%d" % number for number in range(200_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000  # bytes; 200,000 hashes alone would be 13 million
