package import Jobs
import MicroHTTP
import Wording

/// Where the time of a blocking request went: `queue`, `execution` and `fetch` of its job as far as they fall into the request,
/// and `bridge`, the rest. The parts add up to the time from the request's arrival at its endpoint to its answer.
package struct ServerTiming: Sendable {
    private let begin = ContinuousClock.now
    /// Reading outputs for the answer, after the job's end.
    private var fetched = Duration.zero

    init() {}

    /// Counts the body as `fetch`.
    mutating func fetching<Result>(_ body: () async throws -> Result) async rethrows -> Result {
        let begin = ContinuousClock.now
        defer { fetched += .now - begin }
        return try await body()
    }

    /// The header's value (W3C Server Timing), in milliseconds.
    package func value(of marks: JobTimeline.Marks, at now: ContinuousClock.Instant = .now) -> String {
        func within(_ from: ContinuousClock.Instant?, _ to: ContinuousClock.Instant?) -> Duration {
            guard let from else { return .zero }
            return max(.zero, min(to ?? now, now) - max(from, begin))
        }
        let execution = within(marks.started, marks.executed ?? marks.ended)
        let queue = within(marks.submitted, marks.started ?? marks.ended)
        let fetch = within(marks.executed, marks.collected ?? marks.ended) + fetched
        let parts = [("queue", queue), ("execution", execution), ("fetch", fetch), ("bridge", max(.zero, now - begin - queue - execution - fetch))]
        return parts.map { name, duration in
            let tenths = Int((duration.seconds * 10_000).rounded())
            return "\(name);dur=\(tenths / 10).\(tenths % 10)"
        }.joined(separator: ", ")
    }
}
