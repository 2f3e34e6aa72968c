"""What each section must do, in Python: one class of a slab, its operations, and
the scenarios in which every machine's sections are stepped."""

GUARD = 0x1001
OBJECTS = [0x5000 + 0x40 * i for i in range(16)]


class Class:
    """The class as the scenario sets it up, and what operations make of it."""

    def __init__(self, count, room):
        self.slots = [GUARD] + OBJECTS[:count] + [0] * (11 - count)
        self.top = count  # Index of the slot.
        self.end = count + room
        self.batch = OBJECTS[8:]
        self.result = None

    def pop(self):
        self.result = self.slots[self.top] if self.top else None
        self.top -= self.top > 0

    def push(self, new):
        self.result = self.top < self.end and self.slots[self.top] != new
        if self.result:
            self.top += 1
            self.slots[self.top] = new

    def push_batch(self, count):
        self.result = min(count, self.end - self.top)
        for i in range(self.result):
            self.slots[self.top + 1 + i] = self.batch[i]
        self.top += self.result

    def pop_batch(self, count):
        self.result = min(count, self.top)
        for i in range(self.result):
            self.batch[i] = self.slots[self.top - i]
        self.top -= self.result

    def grow(self, slots, limit, here):
        self.result = max(0, min(slots, limit - self.end)) if here else 0
        self.end += self.result

    def shrink(self, slots, here):
        self.result = min(slots, self.end - self.top) if here else 0
        self.end -= self.result

    def is_top(self, new):
        self.result = self.slots[self.top] == new


# kind -> (objects, room, arguments)
SCENARIOS = {
    "pop": [(3, 2, ()), (1, 0, ()), (0, 4, ())],
    "push": [
        (3, 2, (OBJECTS[9],)),
        (0, 1, (OBJECTS[9],)),
        (4, 0, (OBJECTS[9],)),
        (3, 2, (OBJECTS[2],)),
    ],
    "push_batch": [(2, 5, (3,)), (3, 2, (5,)), (4, 0, (2,))],
    "pop_batch": [(5, 0, (3,)), (2, 3, (6,)), (0, 3, (2,))],
    "grow": [
        (3, 2, (2, 10, True)),
        (3, 2, (9, 8, True)),
        (3, 2, (4, 5, True)),
        (3, 2, (4, 8, False)),
    ],
    "shrink": [
        (3, 5, (2, True)),
        (3, 5, (9, True)),
        (3, 0, (4, True)),
        (3, 5, (2, False)),
    ],
    "is_top": [(3, 2, (OBJECTS[2],)), (3, 2, (OBJECTS[1],))],
}
