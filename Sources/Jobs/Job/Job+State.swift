/// How the three values of a job move together.
extension Job.State {
    /// As callers see it, but for the place in the queue, which only the queue knows.
    var snapshot: Job.Snapshot {
        var snapshot = visibility.shown
        snapshot.queuePosition = snapshot.status == .queued ? record.current.queuePosition : nil
        snapshot.progress = record.log.latestProgress?.progress ?? snapshot.progress
        return snapshot
    }

    /// By an end that callers can see, so that none is forgotten by a crash; or because nobody wants the job any more.
    var releasesKey: Bool { visibility.shown.status.isTerminal ? visibility.shown.releasesKey : record.current.cancellation == .callerLeft }

    /// - Returns: nothing when the job is over.
    mutating func change<Result>(_ body: (inout JobRecord) -> Result) -> (Result?, Job.Effects) {
        guard !record.isOver else { return (nil, Job.Effects()) }
        let (end, status) = (record.log.end, visibility.shown.status)
        let result = body(&record)
        visibility.changed(record)
        return (result, Job.Effects(call: call(since: end, status), request: request()))
    }

    mutating func endWriting(_ unwritten: Unwritten, isKept: Bool) -> (isWritten: Bool, Audience.Call) {
        let (end, status) = (record.log.end, visibility.shown.status)
        let isWritten = visibility.endWriting(unwritten, isKept: isKept)
        record.log.reveal(through: unwritten.to.eventID)
        return (isWritten, call(since: end, status))
    }

    /// - Returns: nil when there is nothing to wait for (any more).
    mutating func add(_ waiter: Audience.Waiter, _ token: UInt64) -> Visibility.Request? {
        let status = visibility.shown.status
        guard !status.isTerminal, !waiter.isWanted(status), !Task.isCancelled else { return nil }
        audience.addWaiter(token, waiter)
        return request()
    }

    /// - Parameter firstArchivedID: the first id in the archive, of a job that has one; ids are the cursors there.
    mutating func watch(from start: Job.Start, firstArchivedID: UInt64?, _ wake: @escaping @Sendable () -> Void) -> (Job.Opening?, Visibility.Request) {
        let log = record.log
        var opening = Job.Opening(reset: false, snapshot: [], coveredID: nil, cursor: 0, token: audience.makeToken())
        if case .after(let id) = start, id <= log.visibleID,
            let cursor = firstArchivedID.map({ id + 1 >= $0 ? id : nil }) ?? log.cursor(afterID: id)
        {
            if visibility.shown.status.isTerminal, id == log.visibleID { return (nil, .none) }
            opening.cursor = cursor
        } else {
            if case .after = start { opening.reset = true }
            opening.snapshot = openingEvents
            opening.coveredID = log.visibleID
            opening.cursor = log.end
        }
        audience.addViewer(opening.token, wake: wake)
        return (opening, request())
    }

    /// The present as events. The terminal status of a finished job comes last, after its outputs.
    private var openingEvents: [JobEvent] {
        let snapshot = snapshot
        let status = JobEvent.status(snapshot.status, error: snapshot.error)
        let outputs = snapshot.outputs.map(JobEvent.output)
        if snapshot.status.isTerminal { return [snapshot.progress.map(JobEvent.progress)].compactMap(\.self) + outputs + [status] }
        let latest = [record.log.latestProgress?.event, record.log.latestPreview?.event].compactMap(\.self)
        // A queue position is a `status` event too.
        return [snapshot.queuePosition.map(JobEvent.queuePosition) ?? status] + outputs + latest
    }

    private mutating func call(since end: UInt64, _ status: JobStatus) -> Audience.Call {
        audience.call(record.log, since: end, visibility.shown.status == status ? nil : visibility.shown.status)
    }

    private mutating func request() -> Visibility.Request {
        visibility.mayRequest(record) ? visibility.request(record, isAwaited: audience.awaits(record.current.status)) : .none
    }
}

extension LoggedEvent {
    fileprivate var progress: JobProgress? { if case .progress(let progress) = event { progress } else { nil } }
}

extension EventLog {
    /// Also while it is not to be seen yet.
    var newestProgress: JobProgress? { newestProgressEvent?.progress }
}
