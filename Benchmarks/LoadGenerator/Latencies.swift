import Histogram

/// Durations, and what is told about them.
struct Latencies {
    private var histogram = Histogram<UInt32>(numberOfSignificantValueDigits: .three)

    /// In nanoseconds of one clock. An end before the start counts as 0.
    mutating func record(from start: UInt64, to end: UInt64) { histogram.record(end > start ? end - start : 0) }

    /// In milliseconds.
    struct Summary: Encodable {
        let count: Int
        let mean, p50, p90, p99, p999, max: Double
    }

    /// Nil without any.
    var summary: Summary? {
        guard histogram.totalCount > 0 else { return nil }
        func at(_ percentile: Double) -> Double { Double(histogram.valueAtPercentile(percentile)).milliseconds }
        return Summary(
            count: Int(histogram.totalCount), mean: histogram.mean.milliseconds, p50: at(50), p90: at(90), p99: at(99), p999: at(99.9),
            max: Double(histogram.max).milliseconds)
    }
}

extension Double {
    /// Of nanoseconds, to the microsecond.
    fileprivate var milliseconds: Double { (self / 1000).rounded() / 1000 }

    /// To so many digits behind the point.
    func rounded(to digits: Int) -> Double {
        let scale = (0..<digits).reduce(1.0) { scale, _ in scale * 10 }
        return (self * scale).rounded() / scale
    }
}
