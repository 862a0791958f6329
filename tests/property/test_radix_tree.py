"""Property: whatever was added, evicted and matched, the tree answers as a plain set of stored prefixes would."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from trainer.rollout.prefix_cache.radix_tree import Node, RadixTree

BLOCK = 3
texts = st.lists(st.integers(0, 2), min_size=1, max_size=11).map(tuple)


@dataclass(frozen=True)
class Payload:
    num_bytes: int


def stored(node: Node[Payload], before: tuple[int, ...] = ()) -> dict[tuple[int, ...], Node[Payload]]:
    """Every stored prefix by walking the tree."""
    found = {}
    for child in node.children.values():
        found |= {before + child.tokens: child} | stored(child, before + child.tokens)
    return found


def insert(tree: RadixTree[Payload], text: tuple[int, ...], per_token: int) -> None:
    """As prompts are: a node at each block boundary and one at the end."""
    path = tree.match(text)
    parent = path[-1] if path else tree.root
    for end in [*range((parent.end // BLOCK + 1) * BLOCK, len(text), BLOCK), len(text)]:
        if end > parent.end:
            node = tree.add(parent, text[parent.end : end], Payload(per_token * (end - parent.end)))
            if node is None:
                return
            parent = node


class Tree(RuleBasedStateMachine):
    @initialize(max_bytes=st.integers(0, 60))
    def start(self, max_bytes: int) -> None:
        self.tree: RadixTree[Payload] = RadixTree(max_bytes)

    @rule(text=texts, per_token=st.integers(1, 4))
    def add(self, text: tuple[int, ...], per_token: int) -> None:
        insert(self.tree, text, per_token)

    @rule(held=texts, text=texts)
    def add_while_another_is_read(self, held: tuple[int, ...], text: tuple[int, ...]) -> None:
        path = self.tree.match(held)
        with self.tree.held(path[-1:]):
            insert(self.tree, text, 3)
            assert all(any(node is kept for kept in stored(self.tree.root).values()) for node in path)

    @rule(text=texts)
    def match(self, text: tuple[int, ...]) -> None:
        ends = [len(prefix) for prefix in stored(self.tree.root) if text[: len(prefix)] == prefix]
        path = self.tree.match(text)
        assert (path[-1].end if path else 0) == max(ends, default=0)
        assert sum((node.tokens for node in path), ()) == text[: max(ends, default=0)]

    @rule(text=texts, num_bytes=st.integers(0, 80))
    def replace(self, text: tuple[int, ...], num_bytes: int) -> None:
        if path := self.tree.match(text):
            before = path[-1].payload
            self.tree.replace(path[-1], Payload(num_bytes))
            assert path[-1].payload in (before, Payload(num_bytes))

    @rule()
    def clear(self) -> None:
        self.tree.clear()

    @invariant()
    def bytes_are_counted_and_bounded(self) -> None:
        if not hasattr(self, "tree"):
            return
        nodes = stored(self.tree.root)
        assert self.tree.num_bytes == sum(node.payload.num_bytes for node in nodes.values()) <= self.tree.max_bytes
        assert len(self.tree) == len(nodes)
        assert all(node.num_uses == 0 for node in nodes.values())


TestTree = Tree.TestCase
TestTree.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


@given(st.lists(texts, min_size=1, max_size=8), texts)
def test_what_was_used_last_stays_while_anything_else_can_go(
    others: list[tuple[int, ...]], text: tuple[int, ...]
) -> None:
    tree: RadixTree[Payload] = RadixTree(1000)
    for other in [text, *others]:
        insert(tree, other, 1)
    used = tree.match(text)
    tree.max_bytes = used[-1].end + 1
    assert tree.add(tree.root, (9,), Payload(1)) is not None
    assert tree.match(text) == used
    assert set(stored(tree.root)) == {text[: node.end] for node in used} | {(9,)}
