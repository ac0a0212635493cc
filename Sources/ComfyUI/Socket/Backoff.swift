/// How long to wait before each attempt to connect: doubling from `minimum` to `maximum`, with jitter so that many bridges do not come back in step.
package struct Backoff: Sendable, Hashable {
    package let minimum: Duration
    package let maximum: Duration
    private var current: Duration

    package init(minimum: Duration = .milliseconds(100), maximum: Duration = .seconds(15)) {
        self.minimum = max(minimum, .milliseconds(1))
        self.maximum = max(maximum, self.minimum)
        current = self.minimum
    }

    /// The next delay: the second half of the current step at random, and the step doubles.
    /// - Parameter random: from 0 to 1.
    package mutating func next(random: Double = .random(in: 0...1)) -> Duration {
        let delay = current / 2 + current / 2 * random
        current = min(current * 2, maximum)
        return delay
    }

    package mutating func reset() { current = minimum }
}
