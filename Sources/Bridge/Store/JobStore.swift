import Foundation

/// Where jobs are found again.
///
/// `insert` and `record` return when the store can answer for what they were given, which is before any caller hears of
/// it. The implementation here is memory; a durable one keeps the same promises across restarts.
protocol JobStore: Sendable {
    /// Keeps a new job.
    func insert(_ job: Job) async throws
    /// Keeps how a job ended.
    func recordEnd(of job: Job) async throws
    /// Forgets a job, as if it had never been.
    func remove(_ job: Job) async throws
    /// Forgets jobs that ended before `date`, and the oldest ended ones beyond `limit`; returns them.
    func removeEnded(before date: Date, keeping limit: Int) async throws -> [Job]

    func job(_ id: JobID) async throws -> Job?
    /// The ids of the assets that jobs which are not over read.
    func assetsInUse() async throws -> Set<String>
    /// A page of the jobs that match, the one submitted last first.
    func jobs(_ query: JobQuery) async throws -> JobPage
}
