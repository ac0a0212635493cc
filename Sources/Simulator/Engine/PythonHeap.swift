/// Python's `heapq` over (number, prompt id), move by move.
///
/// `/queue` shows the heap's own order, and two equal entries make a comparison raise in the middle of an operation: a push leaves the
/// entry in the heap, a pop loses one (protocol sections 3 and 13).
struct PythonHeap {
    /// Two entries with equal number and id were compared.
    struct Incomparable: Error {}

    private(set) var items: [Prompt] = []

    mutating func push(_ prompt: Prompt) throws(Incomparable) {
        items.append(prompt)
        try siftDown(from: 0, items.count - 1)
    }

    mutating func pop() throws(Incomparable) -> Prompt? {
        guard let last = items.popLast() else { return nil }
        guard let first = items.first else { return last }
        items[0] = last
        try siftUp(0)
        return first
    }

    /// Takes out one entry and makes the rest a heap again.
    mutating func remove(at index: Int) throws(Incomparable) {
        items.remove(at: index)
        for index in (0..<items.count / 2).reversed() { try siftUp(index) }
    }

    mutating func removeAll() { items = [] }

    private mutating func siftDown(from start: Int, _ position: Int) throws(Incomparable) {
        var position = position
        let item = items[position]
        while position > start {
            let parent = (position - 1) >> 1
            guard try Self.isLess(item, items[parent]) else { break }
            items[position] = items[parent]
            position = parent
        }
        items[position] = item
    }

    private mutating func siftUp(_ start: Int) throws(Incomparable) {
        var position = start
        let item = items[position]
        var child = 2 * position + 1
        while child < items.count {
            if child + 1 < items.count, try !Self.isLess(items[child], items[child + 1]) { child += 1 }
            items[position] = items[child]
            position = child
            child = 2 * position + 1
        }
        items[position] = item
        try siftDown(from: start, position)
    }

    private static func isLess(_ left: Prompt, _ right: Prompt) throws(Incomparable) -> Bool {
        if left.priority.value != right.priority.value { return left.priority.value < right.priority.value }
        guard left.id != right.id else { throw Incomparable() }
        return left.id.unicodeScalars.lexicographicallyPrecedes(right.id.unicodeScalars)
    }
}
