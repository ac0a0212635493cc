package import FoundationEssentials

/// Where jobs are kept that outlive the process. It takes and gives plain values: it knows no `Job`, and which of them are in memory is `StoredJobs`' to know.
package protocol JobStore: EventArchive {
    /// The highest place that a job has.
    var lastPlace: UInt64 { get }
    /// Why nothing can be written at present, for operators; nil while all is well.
    var failure: String? { get }

    /// Keeps a new job, and the `Idempotency-Key` that it uses up. Returns when they outlive the process.
    func insert(_ job: NewJob, key: UsedKey?) async throws

    /// Writes a change, in the order of the calls. Any thread; never waits, and never calls back from here.
    ///
    /// - Parameters:
    ///   - isAwaited: false when nobody would see it now: it may wait a moment for one that is, to be written together with it.
    ///   - change: called when its turn comes, from a thread of the store, perhaps twice, of which one call counts; nil when there is nothing to be written any more.
    ///   - end: called once, from a thread of the store: the change outlives the process, or why it could not be written.
    func write(isAwaited: Bool, _ change: @escaping @Sendable () -> JobChange?, end: @escaping @Sendable ((any Error)?) -> Void)
    /// Writes now what waits for something that is awaited. Any thread; never waits.
    func hurry()
    /// Whether writing works again, for `failure`.
    func probe() async

    /// Forgets a job and its key, as if they had never been.
    func remove(_ id: JobID) async throws
    /// Forgets some of the jobs, oldest end first, that ended before the limit's date or are beyond one of its sizes; returns them. Called
    /// again until it returns none. The key of one that releases it says so from then on.
    func removeEnded(beyond limit: RetentionLimit) async throws -> [StoredJob]

    func job(_ id: JobID) async throws -> StoredJob?
    /// The job's graph as JSON text.
    func workflow(of id: JobID) async throws -> [UInt8]
    /// The newest jobs with these statuses (nil is any) before this place, the newest first; nil for one that cannot be read.
    func jobs(_ statuses: Set<JobStatus>?, before place: UInt64, limit: Int) async throws -> [(place: UInt64, job: StoredJob?)]
    /// The jobs that are not over, with all it takes to run them, in the order of their submission.
    func openJobs() async throws -> [(place: UInt64, job: StoredJob)]
}

/// A job that a store is to keep.
package struct NewJob: Sendable {
    package let id: JobID
    /// In the order of submissions.
    package let place: UInt64
    package let createdAt: Date
    package let submission: Submission
    /// All that is known of it so far.
    package let unwritten: Unwritten
}

/// What is to be written of the job at this place.
package struct JobChange: Sendable {
    package let place: UInt64
    package let unwritten: Unwritten
}

/// The outputs of jobs that are in memory.
package protocol PresentOutputs: Sendable {
    /// The asset of such an output: the object whose hash may become known, or one that could not be written yet.
    ///
    /// - Parameter job: nil for any job that could not be written.
    func output(_ assetID: String, of job: JobID?) -> Asset?
}
