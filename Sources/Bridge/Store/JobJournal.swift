import FoundationEssentials

/// Writes down what happens to jobs, in the order in which it happens to each.
protocol JobJournal: AnyObject, Sendable {
    /// The job has something to be written: soon the journal takes it (`Job.takeUnwritten`), writes it and says so (`Job.wrote`). Any
    /// thread; never waits, and never calls back from here.
    ///
    /// - Parameter isAwaited: false when nobody would see it now: it need not be written by itself, only within moments.
    func enqueue(_ job: Job, isAwaited: Bool)

    /// Somebody would see now what was enqueued without being awaited. Any thread; never waits, and never calls back from here.
    func hurry()
}

/// Events that are on disk and not in memory.
protocol EventArchive: AnyObject, Sendable {
    /// The next events after an id, in order, at most `limit`; nil when they cannot be read (any more). Reads from the disk, as a
    /// thread of the server may that sends a file.
    func events(of job: Job, after id: UInt64, limit: Int) -> [LoggedEvent]?
}

/// A job as it was written down.
struct StoredJob: Sendable {
    let id: JobID
    let createdAt: Date
    let submission: Submission
    let snapshot: Job.Snapshot
    /// Of the events that are kept; the older ones of a job with very many are not.
    let firstEventID: UInt64
    let lastEventID: UInt64
    /// The newest ones, where the job is to go on; else none.
    var events: [LoggedEvent] = []
}

/// An `Idempotency-Key` with what makes two requests with it the same.
struct UsedKey: Sendable {
    /// Keys of different operations are different.
    enum Operation: String, Sendable { case job, upload }

    let operation: Operation
    let key: String
    let digest: [UInt8]
    /// The id of the asset; that of a job is written with the job.
    var made: String?
    var date = Date()
}
