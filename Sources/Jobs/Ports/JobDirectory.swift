package import FoundationEssentials

/// Where jobs are found again.
///
/// `insert` and `record` return when it can answer for what they were given, which is before any caller hears of it: the one in
/// memory (`MemoryJobs`) until the process ends, the one over a store (`StoredJobs`) across restarts.
package protocol JobDirectory: Sendable {
    /// What its jobs write to; nil when nothing outlives the process.
    var journal: (any JobJournal)? { get }
    /// Why nothing can be written at present, for operators; nil while all is well.
    var failure: String? { get }

    /// Keeps a new job, and the `Idempotency-Key` that it uses up.
    func insert(_ job: Job, key: UsedKey?) async throws
    /// Returns when what is known of the job now is kept, or could not be.
    func record(_ job: Job) async
    /// The job is over: it may leave the memory.
    func recordEnd(of job: Job) async
    /// Forgets a job, as if it had never been.
    func remove(_ job: Job) async throws
    /// Forgets some of the jobs, oldest end first, that ended before the limit's date or are beyond one of its sizes; returns them. Called
    /// again until it returns none.
    func removeEnded(beyond limit: RetentionLimit) async throws -> [Job]
    /// The jobs of a former process that are not over, in the order of their submission.
    func restore() async throws -> [Job]

    func job(_ id: JobID) async throws -> Job?
    /// The job's graph as JSON text, which an ended job need not hold in memory.
    func workflow(of job: Job) async throws -> [UInt8]
    /// The ids of the assets that jobs which are not over read.
    func assetsInUse() async throws -> Set<String>
    /// A page of the jobs that match, the one submitted last first.
    func jobs(_ query: JobQuery) async throws -> JobPage
}

/// What is kept of ended jobs.
package struct RetentionLimit: Sendable {
    /// Only ends from here on.
    package var date: Date
    package var count = Int.max
    /// Bytes of all that is written down of jobs, their captured outputs included.
    package var bytes = Int.max
}
