package import FoundationEssentials

/// Writes down what happens to jobs, in the order in which it happens to each.
package protocol JobJournal: AnyObject, Sendable {
    /// The job has something to be written: soon the journal begins to write it (`beginWriting`) and says how that ended (`endWriting`). Any
    /// thread; never waits, and never calls back from here.
    ///
    /// - Parameter isAwaited: false when nobody would see it now: it need not be written by itself, only within moments.
    func enqueue(_ job: any JournaledJob, isAwaited: Bool)

    /// Somebody would see now what was enqueued without being awaited. Any thread; never waits, and never calls back from here.
    func hurry()
}

/// A job as its journal knows it.
package protocol JournaledJob: AnyObject, Sendable {
    var id: JobID { get }

    /// What is to be written down now. Each is ended, in this order, by `endWriting`.
    func beginWriting() -> Unwritten

    /// What was given is on disk, and from now on callers see it.
    ///
    /// - Parameter isKept: false when it could not be written. Callers see it all the same, rather than nothing for as long as the disk
    ///   is full; it is among what is given the next time.
    /// - Returns: whether it is written, and everything that was given before.
    @discardableResult
    func endWriting(_ unwritten: Unwritten, isKept: Bool) -> Bool
}

/// Events that are on disk and not in memory.
package protocol EventArchive: AnyObject, Sendable {
    /// Reads the next events of a job after an id, in order, at most `limit`, and gives them to `completion`; nil or none when they cannot be read (any more). Any
    /// thread; never waits, and calls back from a thread of its own.
    func read(eventsOf job: JobID, after id: UInt64, limit: Int, _ completion: @escaping @Sendable ([LoggedEvent]?) -> Void)
}

/// A job as it was written down.
package struct StoredJob: Sendable {
    package let id: JobID
    package let createdAt: Date
    package let submission: Submission
    package let snapshot: Job.Snapshot
    /// Of the events that are kept; the older ones of a job with very many are not.
    package let firstEventID: UInt64
    package let lastEventID: UInt64
    /// The newest ones, where the job is to go on; else none.
    package var events: [LoggedEvent] = []

    package init(
        id: JobID, createdAt: Date, submission: Submission, snapshot: Job.Snapshot, firstEventID: UInt64, lastEventID: UInt64, events: [LoggedEvent] = []
    ) {
        self.id = id
        self.createdAt = createdAt
        self.submission = submission
        self.snapshot = snapshot
        self.firstEventID = firstEventID
        self.lastEventID = lastEventID
        self.events = events
    }
}

/// An `Idempotency-Key` with what makes two requests with it the same.
package struct UsedKey: Sendable {
    /// Keys of different operations are different.
    package enum Operation: String, Sendable { case job, upload }

    package let operation: Operation
    package let key: String
    package let digest: [UInt8]
    /// The id of the asset; that of a job is written with the job.
    package var made: String?
    package var date = Date()

    package init(operation: Operation, key: String, digest: [UInt8], made: String? = nil, date: Date = Date()) {
        self.operation = operation
        self.key = key
        self.digest = digest
        self.made = made
        self.date = date
    }
}
