import DequeModule

extension Deque {
    /// The first index whose element satisfies the predicate, which must hold for every later element too; `endIndex` if none does.
    package func partitioningIndex(_ predicate: (Element) -> Bool) -> Int {
        var low = startIndex
        var high = endIndex
        while low < high {
            let middle = (low + high) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
