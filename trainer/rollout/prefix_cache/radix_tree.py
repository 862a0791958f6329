"""A tree over token ids whose nodes end where a state was kept. The longest stored prefix of a text is a path from the
root; what was used least recently goes first when bytes run out.

Edges are never split, because a state cannot be cut where no convolution tail was kept: two nodes under one parent may
begin with the same tokens. A walk takes the longest child that fits, which always leads to the longest stored prefix:
a shorter sibling can only have been added while the longer one was there, and then nothing was added below it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar


class Sized(Protocol):
    @property
    def num_bytes(self) -> int: ...


P = TypeVar("P", bound=Sized)
Tokens = tuple[int, ...]


class Node(Generic[P]):
    """``end`` tokens from the root to here; ``payload`` belongs to the last ``len(tokens)`` of them."""

    def __init__(self, parent: Node[P] | None, tokens: Tokens, payload: P | None) -> None:
        self.parent, self.tokens = parent, tokens
        self.end: int = len(tokens) + (parent.end if parent is not None else 0)
        self.num_uses = 0
        self.children: dict[Tokens, Node[P]] = {}
        self._lengths: Counter[int] = Counter()
        self._payload = payload

    @property
    def payload(self) -> P:
        assert self._payload is not None, "the root holds nothing"
        return self._payload

    def child(self, text: Tokens) -> Node[P] | None:
        """The longest child whose tokens follow in ``text``."""
        fitting = (self.children.get(text[self.end : self.end + length]) for length in sorted(self._lengths)[::-1])
        return next((node for node in fitting if node is not None), None)

    def adopt(self, node: Node[P]) -> None:
        self.children[node.tokens] = node
        self._lengths[len(node.tokens)] += 1

    def disown(self, node: Node[P]) -> None:
        del self.children[node.tokens]
        self._lengths -= Counter({len(node.tokens): 1})


class RadixTree(Generic[P]):
    """Holds at most ``max_bytes`` of payloads."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_evicted = 0
        self.clear()

    def clear(self) -> None:
        self.num_bytes = 0
        self.root: Node[P] = Node(None, (), None)
        # Least recently used first. A node is used with all above it and those after it, so that none comes before
        # its children.
        self._by_use: OrderedDict[int, Node[P]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_use)

    def match(self, text: Sequence[int]) -> list[Node[P]]:
        """The path to the longest stored prefix of ``text``, without the root."""
        path, tokens, node = list[Node[P]](), tuple(text), self.root
        while (found := node.child(tokens)) is not None:
            path.append(found)
            node = found
        self._use(node)
        return path

    def add(self, parent: Node[P], tokens: Sequence[int], payload: P) -> Node[P] | None:
        """A node below ``parent``; None when there is no room even after all that is not in use has gone."""
        with self.held([parent]):
            if not self._make_room(payload.num_bytes):
                return None
        node = Node(parent, tuple(tokens), payload)
        parent.adopt(node)
        self.num_bytes += payload.num_bytes
        self._by_use[id(node)] = node
        self._use(node)
        return node

    def replace(self, node: Node[P], payload: P) -> None:
        """Left as it is when there is no room for more bytes."""
        more = payload.num_bytes - node.payload.num_bytes
        with self.held([node]):
            if self._make_room(more):
                self.num_bytes += more
                node._payload = payload

    @contextmanager
    def held(self, nodes: Iterable[Node[P]]) -> Iterator[None]:
        """Keeps these nodes, and hence all above them, from being evicted."""
        held = list(nodes)
        for node in held:
            node.num_uses += 1
        try:
            yield
        finally:
            for node in held:
                node.num_uses -= 1

    def _use(self, node: Node[P]) -> None:
        while node.parent is not None:
            self._by_use.move_to_end(id(node))
            node = node.parent

    def _make_room(self, num_bytes: int) -> bool:
        if num_bytes > self.max_bytes:
            return False
        while self.num_bytes + num_bytes > self.max_bytes:
            free = (node for node in self._by_use.values() if not node.children and not node.num_uses)
            if (oldest := next(free, None)) is None:
                return False
            self._evict(oldest)
        return True

    def _evict(self, node: Node[P]) -> None:
        assert node.parent is not None
        node.parent.disown(node)
        del self._by_use[id(node)]
        self.num_bytes -= node.payload.num_bytes
        self.num_evicted += 1
