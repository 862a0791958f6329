"""Candidates as arrays: rows of choice indices, one-hot positions, and how often each kind of block occurs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from search_space.space.core import DEPTH, Assignment, SearchSpace, layer_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Structure:
    """A row [P] holds the index of the choice of every parameter. ``positions`` are one-hot over parameters [C] and
    say where a block stands; ``blocks`` [B] count the blocks of each kind, wherever they stand, beside the shared
    values and pairs of them. Layers beyond a candidate's depth count for nothing."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.labels = space.parameters()
        self.names = list(self.labels)
        self.sizes = np.array([len(labels) for labels in self.labels.values()], dtype=np.int64)
        self.offsets = np.concatenate(([0], np.cumsum(self.sizes)[:-1])).astype(np.int64)
        self._index = {name: {label: i for i, label in enumerate(labels)} for name, labels in self.labels.items()}
        self._layer = np.array([layer_of(name) for name in self.names], dtype=np.int64)
        self._depths = np.array([int(label) for label in self.labels.get(DEPTH, (str(space.depth),))])
        tied = {"mixer": space.tied_mixers, "ffn": space.tied_ffns}
        self._span = np.array([tied.get(name.partition(".")[2], 1) for name in self.names], dtype=np.int64)
        self._kinds = self._kind_matrix()
        self.listed = None if space.listing is None else space.listing.rows.astype(np.int64)
        self._crossed = [i for i, name in enumerate(self.names) if self._layer[i] < 0 and name != DEPTH]

    @property
    def num_positions(self) -> int:
        return int(self.sizes.sum())

    def rows(self, assignments: Iterable[Mapping[str, str]]) -> Ints:
        """[N, P]; raises KeyError for a value that is not a choice."""
        found = [[self._index[name][one[name]] for name in self.names] for one in assignments]
        return np.array(found, dtype=np.int64).reshape(-1, len(self.names))

    def assignment(self, row: Ints) -> Assignment:
        return {name: self.labels[name][int(i)] for name, i in zip(self.names, row, strict=True)}

    def positions(self, rows: Ints) -> Floats:
        """[N, C], zero for layers that a candidate does not have."""
        found = np.zeros((len(rows), self.num_positions))
        if rows.size:
            np.put_along_axis(found, rows + self.offsets, self._active(rows).astype(np.float64), axis=1)
        return found

    def blocks(self, rows: Ints) -> Floats:
        """[N, B]: counts per kind (for each shared value apart, as a block of another width is another block), then
        one-hot shared values, then one."""
        positions = self.positions(rows)
        counts = (positions * self._num_layers(rows)) @ self._kinds
        parts = [counts]
        for index in self._crossed:
            hot = positions[:, self.offsets[index] : self.offsets[index] + self.sizes[index]]
            parts += [counts * hot[:, [i]] for i in range(1, hot.shape[1])]
        shared = [i for i in range(len(self.names)) if self._layer[i] < 0]
        values = [positions[:, self.offsets[i] + 1 : self.offsets[i] + self.sizes[i]] for i in shared]
        parts += values + [a[:, [i]] * b for a, b in combinations(values, 2) for i in range(a.shape[1])]
        return np.concatenate([*parts, np.ones((len(rows), 1))], axis=1)

    @property
    def num_kinds(self) -> int:
        """Columns of ``blocks`` that count blocks of each kind; those under other shared values follow them."""
        return self._kinds.shape[1]

    def timed(self, rows: Ints, times: Sequence[Mapping[str, float]]) -> tuple[Floats, Floats]:
        """Features [T, W] of timed blocks (the columns of ``blocks`` that count) and their mean times [T], one for each
        kind in each row. ``times`` map "3.mixer" or "3.ffn" to a time; a row without any says nothing, and a block of a
        row that has others but not this one (a skip) takes none."""
        columns = np.argmax(self._kinds, axis=1)
        features, means = [], []
        for row, found in zip(rows, times, strict=True):
            by_kind: dict[int, list[float]] = {}
            for at in np.flatnonzero(self._active(row[None])[0] & (self._layer >= 0)) if found else ():
                kind, sublayer = int(columns[self.offsets[at] + row[at]]), self.names[at].partition(".")[2]
                span = range(self._layer[at], min(self._layer[at] + self._span[at], self._depth_of(row)))
                by_kind.setdefault(kind, []).extend(found.get(f"{layer}.{sublayer}", 0.0) for layer in span)
            for kind, each in by_kind.items():
                features.append(self._column(row, kind))
                means.append(float(np.mean(each)))
        width = self.num_kinds * (1 + sum(int(self.sizes[i]) - 1 for i in self._crossed))
        return np.array(features).reshape(-1, width), np.array(means)

    def _column(self, row: Ints, kind: int) -> Floats:
        """[W]: one block of a kind under a row's shared values."""
        one = np.eye(self.num_kinds)[kind]
        hot = [one * float(row[index] == i) for index in self._crossed for i in range(1, int(self.sizes[index]))]
        return np.concatenate([one, *hot])

    def _depth_of(self, row: Ints) -> int:
        return int(self._depths[row[self.names.index(DEPTH)]] if DEPTH in self.labels else self._depths[0])

    # --- many candidates at once ------------------------------------------------------------------------------------

    def random(self, count: int, rng: np.random.Generator) -> Ints:
        """``count`` rows, rules aside; of listed candidates that many different ones, or all."""
        if self.listed is not None:
            return self.listed[rng.permutation(len(self.listed))[:count]]
        return self._drawn(count, rng)

    def _drawn(self, count: int, rng: np.random.Generator) -> Ints:
        return (rng.random((count, len(self.names))) * self.sizes).astype(np.int64)

    def mutated(self, parents: Ints, count: int, rng: np.random.Generator, most: int = 4) -> Ints:
        """``count`` rows, each a parent with one to ``most`` parameters drawn anew."""
        rows = parents[rng.integers(len(parents), size=count)].copy()
        changes = rng.integers(1, min(most, len(self.names)) + 1, size=count)
        order = rng.random(rows.shape).argsort(axis=1)
        drawn = self._drawn(count, rng)
        return np.where(order < changes[:, None], drawn, rows)

    def crossed(self, parents: Ints, count: int, rng: np.random.Generator) -> Ints:
        """``count`` rows, each with a stretch of layers of one parent inside another."""
        first, second = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        ends = np.sort(rng.integers(0, len(self.names) + 1, size=(count, 2)), axis=1)
        index = np.arange(len(self.names))
        return np.where((index >= ends[:, :1]) & (index < ends[:, 1:]), second, first)

    def canonical(self, rows: Ints) -> Ints:
        """Layers that a candidate does not have stand at their first choice."""
        return np.where(self._active(rows), rows, 0)

    def _num_layers(self, rows: Ints) -> Floats | float:
        """[N, C] layers of a candidate that share the choice of each position."""
        if DEPTH not in self.labels and (self._span == 1).all():
            return 1.0
        depth = self._depths[rows[:, self.names.index(DEPTH)]] if DEPTH in self.labels else self._depths[:1]
        shared = np.minimum(self._span, np.maximum(depth[:, None] - self._layer[None, :], 0))
        return np.repeat(shared, self.sizes, axis=1).astype(np.float64)

    def _active(self, rows: Ints) -> NDArray[np.bool_]:
        if DEPTH not in self.labels:
            return np.ones(rows.shape, dtype=bool)
        depth = self._depths[rows[:, self.names.index(DEPTH)]]
        return self._layer[None, :] < depth[:, None]

    def _kind_matrix(self) -> Floats:
        """[C, K]: which kind of block each position is."""
        kinds: dict[str, int] = {}
        entries = []
        for at, name in enumerate(self.names):
            if self._layer[at] < 0:
                continue
            for i, label in enumerate(self.labels[name]):
                column = kinds.setdefault(f"{name.partition('.')[2]} {label}", len(kinds))
                entries.append((int(self.offsets[at]) + i, column))
        found = np.zeros((self.num_positions, len(kinds)))
        for row, column in entries:
            found[row, column] = 1.0
        return found

