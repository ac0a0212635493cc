/// What of a job callers are shown: what is written down, so that nobody is told what a crash would undo; everything, where nothing is written.
struct Visibility: Sendable {
    /// What the journal has to be asked for.
    enum Request: Sendable, Equatable {
        case none
        case write(isAwaited: Bool)
        /// What it was asked for without hurry.
        case hurry
    }

    /// Whether the journal will ask for what is unwritten.
    private enum Journaling {
        case none
        /// Within moments.
        case lazy
        /// As soon as possible: somebody waits to see it.
        case soon
    }

    /// The job as callers see it, but for what is never written (`Job.snapshot`).
    private(set) var shown: Job.Snapshot
    let isJournaled: Bool
    /// How far the job is written down.
    private var written = Unwritten.Extent()
    /// How far the journal was given it, to be written.
    private var given = Unwritten.Extent()
    private var journaling: Journaling

    /// Of a new job, which the store writes when it is inserted: the journal need not be told until then.
    init(_ record: JobRecord, isJournaled: Bool) {
        shown = record.current
        self.isJournaled = isJournaled
        journaling = .soon
    }

    /// Of a job that is written.
    init(stored record: JobRecord) {
        shown = record.current
        isJournaled = true
        written = record.extent
        given = written
        journaling = .none
    }

    /// Where nothing is written, whatever happens is seen.
    mutating func changed(_ record: JobRecord) {
        if !isJournaled { shown = record.current }
    }

    /// - Parameter isAwaited: somebody would see at once what is written.
    mutating func request(_ record: JobRecord, isAwaited: Bool) -> Request {
        guard mayRequest(record), isAwaited || journaling == .none else { return .none }
        defer { journaling = isAwaited ? .soon : .lazy }
        return journaling == .lazy ? .hurry : .write(isAwaited: isAwaited)
    }

    /// There is something to be written that the journal is not about to write as soon as it can: then it matters who waits for it.
    func mayRequest(_ record: JobRecord) -> Bool {
        isJournaled && journaling != .soon && (record.version != given.version || record.log.lastID > given.eventID)
    }

    /// What the journal is to write now.
    mutating func beginWriting(_ record: JobRecord) -> Unwritten {
        var snapshot = record.current
        snapshot.progress = record.log.newestProgress ?? record.current.progress
        let unwritten = Unwritten(from: given, to: record.extent, snapshot: snapshot, events: record.log.replayable(after: given.eventID))
        given = unwritten.to
        journaling = .none
        return unwritten
    }

    /// What was given is on disk, and from now on callers see it; the caller reveals its events.
    ///
    /// - Parameter isKept: false when it could not be written. Callers see it all the same, rather than nothing for as long as the disk
    ///   is full; it is among what is given the next time.
    /// - Returns: whether it is written, and everything that was given before.
    mutating func endWriting(_ unwritten: Unwritten, isKept: Bool) -> Bool {
        shown = unwritten.snapshot
        // What follows on something that could not be written is given again together with that.
        let isWritten = isKept && unwritten.from == written
        if isWritten { written = unwritten.to } else { given = written }
        return isWritten
    }
}

extension JobRecord {
    fileprivate var extent: Unwritten.Extent {
        Unwritten.Extent(eventID: log.lastID, outputCount: current.outputs.count, returns: returns, version: version, status: current.status)
    }
}

/// What is to be written of a job.
package struct Unwritten: Sendable {
    /// How much of a job.
    package struct Extent: Sendable, Equatable {
        var eventID: UInt64 = 0
        var outputCount = 0
        var returns = 0
        var version: UInt64 = 0
        /// Nil before the job is inserted.
        package var status: JobStatus?
    }

    /// What was given before, and what will be written when this is.
    package let from: Extent
    package let to: Extent
    package let snapshot: Job.Snapshot
    package let events: [LoggedEvent]

    /// Whether more than events is to be written.
    package var isChanged: Bool { from.version != to.version }
    /// Outputs that were written are not the job's any more.
    package var forgetsOutputs: Bool { from.returns != to.returns }
    /// The first of the snapshot's outputs that was not given before.
    package var firstNewOutput: Int { forgetsOutputs ? 0 : from.outputCount }
}
