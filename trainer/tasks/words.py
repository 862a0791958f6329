"""Names, places and things for tasks that we write ourselves."""

from __future__ import annotations

import random

FIRST = (
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo", "Maria", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wendy", "Adam", "Bella", "Chris", "Diana", "Eric", "Fiona",
)  # fmt: skip
LAST = (
    "Adams", "Baker", "Clark", "Davis", "Evans", "Fisher", "Green", "Harris", "Irwin", "Jones", "King", "Lewis",
    "Martin", "Nelson", "Owen", "Parker", "Reed", "Scott", "Taylor", "Ward", "Young", "Hill", "Cook", "Wood",
)  # fmt: skip
CITIES = (
    "Paris", "London", "Rome", "Madrid", "Berlin", "Vienna", "Athens", "Dublin", "Lisbon", "Oslo", "Boston", "Chicago",
    "Dallas", "Denver", "Miami", "Seattle", "Austin", "Toronto", "Sydney", "Tokyo", "Cairo", "Delhi", "Lima", "Moscow",
)  # fmt: skip
JOBS = ("teacher", "doctor", "farmer", "lawyer", "nurse", "baker", "driver", "writer", "painter", "engineer", "judge")
THINGS = ("book", "lamp", "chair", "table", "phone", "watch", "shirt", "coat", "clock", "camera", "mirror", "desk")
_SYLLABLES = ("ba", "co", "da", "fe", "ga", "ho", "ka", "lo", "mi", "na", "po", "ra", "se", "ta", "vo", "za")


def new_name(draw: random.Random) -> str:
    """A name that nobody has, so that it can only be copied."""
    return "".join(draw.choice(_SYLLABLES) for _ in range(draw.randint(2, 3))).capitalize()
