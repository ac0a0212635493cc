import PreviewStamp

/// What `run` and `direct` print.
struct JobReport: Encodable {
    let jobs: Int
    let seconds: Double
    let jobsPerSecond: Double
    let latency: Latencies.Summary?
    /// Answers that turned a job away, by status.
    let refused: [String: Int]
    let generator: OwnCost
}

/// Counts while jobs run.
struct JobTally {
    private let begin = MonotonicClock.now
    private let cost = OwnCost.Meter()
    private var latencies = Latencies()
    private var refused: [String: Int] = [:]
    private(set) var complaints = Complaints()

    mutating func succeeded(_ start: Pacing.Start, at end: UInt64) { latencies.record(from: start.time, to: end) }
    mutating func refused(_ status: Int) { refused["\(status)", default: 0] += 1 }
    mutating func complain(_ text: String) { complaints.add(text) }

    var report: JobReport {
        let seconds = Double(MonotonicClock.now - begin) / 1e9
        let summary = latencies.summary
        return JobReport(
            jobs: summary?.count ?? 0, seconds: seconds.rounded(to: 3), jobsPerSecond: (Double(summary?.count ?? 0) / seconds).rounded(to: 1),
            latency: summary, refused: refused, generator: cost.read())
    }
}
