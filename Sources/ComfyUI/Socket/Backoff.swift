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
    /// - Parameters:
    ///   - limit: of this delay; the steps go on as without it.
    ///   - random: from 0 to 1.
    package mutating func next(atMost limit: Duration? = nil, random: Double = .random(in: 0...1)) -> Duration {
        let step = min(current, limit ?? current)
        current = min(current * 2, maximum)
        return step / 2 + step / 2 * random
    }

    package mutating func reset() { current = minimum }
}
