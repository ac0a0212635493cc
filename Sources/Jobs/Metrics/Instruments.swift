import Synchronization
import Wording

/// Counts up, or up and down as a gauge. One atomic addition; any thread.
package final class Counter: Sendable {
    private let count = Atomic<Int>(0)

    package init() {}

    package var value: Int { count.load(ordering: .relaxed) }

    package func add(_ amount: Int = 1) {
        count.wrappingAdd(amount, ordering: .relaxed)
    }
}

/// One counter for each case of a label with few values.
package struct CounterSet<Label: RawRepresentable<String> & CaseIterable & Hashable & Sendable>: Sendable {
    private let counters = Dictionary(uniqueKeysWithValues: Label.allCases.map { ($0, Counter()) })

    package subscript(label: Label) -> Counter { counters[label]! }
}

/// Durations, counted by size. Two atomic additions; any thread.
package final class Histogram: Sendable {
    /// The inclusive upper bounds of all buckets but the last, in seconds.
    package let bounds: [Double]
    private let buckets: [Counter]
    private let nanoseconds = Atomic<Int>(0)

    /// - Parameter bounds: rising, in seconds.
    package init(bounds: [Double]) {
        self.bounds = bounds
        buckets = (0...bounds.count).map { _ in Counter() }
    }

    /// A clock that was set back counts as no time.
    package func observe(_ duration: Duration) {
        let seconds = max(0, duration.seconds)
        buckets[bounds.firstIndex { seconds <= $0 } ?? bounds.count].add()
        nanoseconds.wrappingAdd(Int((min(seconds, 1e9) * 1e9).rounded()), ordering: .relaxed)
    }

    package struct Reading: Sendable, Equatable {
        /// How many were at most as long as each bound.
        package let cumulative: [Int]
        package let count: Int
        /// Seconds.
        package let sum: Double

        package init(cumulative: [Int], count: Int, sum: Double) {
            self.cumulative = cumulative
            self.count = count
            self.sum = sum
        }
    }

    /// The count is that of the buckets, so that a reading in the middle of an observation fits together.
    package var reading: Reading {
        var total = 0
        let cumulative = buckets.map { bucket in
            total += bucket.value
            return total
        }
        return Reading(cumulative: Array(cumulative.dropLast()), count: total, sum: Double(nanoseconds.load(ordering: .relaxed)) / 1e9)
    }
}
