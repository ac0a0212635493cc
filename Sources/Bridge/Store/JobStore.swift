import Foundation

/// Where jobs and their outputs are found again.
///
/// `insert` and `record` return when the store can answer for what they were given, which is before any caller hears of
/// it. The implementation here is memory; a durable one keeps the same promises across restarts.
protocol JobStore: Sendable {
    /// Keeps a new job.
    func insert(_ job: Job) async throws
    /// Keeps an output of a job, so that its asset id resolves.
    func record(_ output: Output) async throws
    /// Keeps how a job ended.
    func recordEnd(of job: Job) async throws
    /// Forgets a job and its outputs, as if it had never been.
    func remove(_ job: Job) async throws
    /// Forgets jobs that ended before `date`, and the oldest ended ones beyond `limit`; returns them.
    func removeEnded(before date: Date, keeping limit: Int) async throws -> [Job]

    func job(_ id: JobID) async throws -> Job?
    /// A page of the jobs that match, the one submitted last first.
    func jobs(_ query: JobQuery) async throws -> JobPage
    func output(_ id: String) async throws -> Output?
}
