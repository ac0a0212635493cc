import FoundationEssentials
import OrderedCollections
import OrderedJSON

/// What is true of a job, shown to anybody or not, and how it changes: a value, which `Job` guards. Nothing changes once it `isOver`; `Job` sees to that.
struct JobRecord: Sendable {
    private(set) var submission: Submission
    /// As it is. What callers see is `Visibility.shown`.
    private(set) var current: Job.Snapshot
    var log: EventLog
    private(set) var callers = Callers()
    private(set) var previewCount = 0
    /// Counts the changes of what is written besides events.
    private(set) var version: UInt64 = 1
    /// How often the outputs were taken back.
    private(set) var returns = 0
    /// Takes cancel requests while a worker has the job.
    private var cancelHandler: (@Sendable () -> Void)?
    /// Viewers were told that ComfyUI cannot be reached, and not yet that it is back.
    private var isAbsenceTold = false
    /// Where the first of the outputs are, by their assets; the others are added when somebody looks for one.
    private var outputPlaces: [Name: Int] = [:]
    /// `Attempts.eventsBefore` as it was before the last time.
    private var eventsBeforeReturn: UInt64?
    /// When the progress was last given to the journal.
    private var progressNoted = ContinuousClock.now
    /// The newest place in the queue that the job heard of.
    private var place: QueuePlace?

    /// A new job.
    init(submission: Submission, log: EventLog, createdAt: Date) {
        self.submission = submission
        self.log = log
        current = Job.Snapshot(status: .queued, statusChangedAt: createdAt)
        self.log.append(.status(.queued, error: nil))
    }

    /// A job of a former process, or one that left the memory after its end.
    init(_ stored: StoredJob, previewLimit: Int) {
        submission = stored.submission
        current = stored.snapshot
        log = EventLog(previewLimit: previewLimit, past: stored.events, lastID: stored.lastEventID)
        // Whoever blocked for it is gone, and the job is not.
        callers.attach(.isPromised)
        // How many previews there were nobody wrote down. Their numbers are in links, which must not mean another picture now.
        if stored.snapshot.startedAt != nil { previewCount = Int(max(0, Date().timeIntervalSince(stored.createdAt)) * 1000) }
    }

    var isOver: Bool { current.status.isTerminal }

    /// The one with this asset.
    mutating func output(_ assetID: String) -> Output? {
        for place in outputPlaces.count..<max(outputPlaces.count, current.outputs.count) { outputPlaces[current.outputs[place].asset.id] = place }
        return outputPlaces[assetID].map { current.outputs[$0] }
    }

    // MARK: Callers

    mutating func attach(_ interest: Job.Interest) { callers.attach(interest) }
    mutating func callerAnswered(isPromised: Bool) { callers.answered(isPromised: isPromised) }

    /// Returns true when with it the last one went who wants the job: it is to be canceled.
    mutating func callerLeft() -> Bool {
        guard callers.left(), current.cancellation == nil else { return false }
        current.cancellation = .callerLeft
        version += 1
        return true
    }

    /// Nobody wants the job but callers that block.
    var failsWhenUnreachable: Bool { callers.blocked > 0 && !callers.isPromised }

    // MARK: Events

    /// How old the progress may be that the bridge after this one goes on from.
    private static let progressAge = Duration.milliseconds(100)

    /// - Parameter noting: the present, where progress is to be written from time to time.
    mutating func publish(_ event: JobEvent, noting now: ContinuousClock.Instant?) {
        log.append(event)
        guard case .progress = event, let now, now - progressNoted >= Self.progressAge else { return }
        progressNoted = now
        version += 1
    }

    mutating func publish(preview bytes: [UInt8], node: String, contentType: String) -> Preview {
        previewCount += 1
        let preview = Preview(number: previewCount, node: node, contentType: contentType, bytes: bytes)
        log.append(.preview(preview))
        return preview
    }

    /// Viewers are told once.
    mutating func noteAbsence(_ message: () -> String) {
        guard !isAbsenceTold else { return }
        isAbsenceTold = true
        log.append(.log(LogEntry(.warning, message())))
    }

    /// Told to those who were told that it was away.
    mutating func noteReturn() {
        guard isAbsenceTold else { return }
        isAbsenceTold = false
        log.append(.log(LogEntry(.info, "ComfyUI is back.")))
    }

    /// Passes over what is older than the newest place that the job heard of: places are told outside the queue's lock.
    mutating func moved(to place: QueuePlace) {
        guard place.version > self.place?.version ?? 0 else { return }
        let isNews = place.position != current.queuePosition
        self.place = place
        current.queuePosition = place.position
        if isNews { log.append(.queuePosition(place.position)) }
    }

    // MARK: Results

    mutating func add(_ output: Output) {
        current.outputs.append(output)
        log.append(.output(output))
    }

    mutating func markReusedOutputs() {
        current.hasReusedOutputs = true
        version += 1
    }

    mutating func addOther(_ value: JSON, node: String) {
        var members = current.otherOutputs[node]?.object ?? [:]
        members.merge(value.object ?? [:]) { _, newer in newer }
        current.otherOutputs[node] = .object(members)
        version += 1
    }

    // MARK: Runs

    /// A worker has the job. Returns false when it was canceled meanwhile and must not be run.
    mutating func taken(cancelHandler: @escaping @Sendable () -> Void) -> Bool {
        guard current.status == .queued || current.status == .running else { return false }
        self.cancelHandler = cancelHandler
        return true
    }

    mutating func assign(to endpoint: String) {
        guard current.assignment != endpoint else { return }
        current.assignment = endpoint
        version += 1
    }

    mutating func endAttempt(_ count: (inout Attempts) -> Void) -> Attempts {
        let before = current.attempts
        count(&current.attempts)
        if current.attempts != before { version += 1 }
        cancelHandler = nil
        return current.attempts
    }

    /// No ComfyUI has the job any more, and what the run made does not count.
    mutating func returned() {
        current.assignment = nil
        current.outputs.removeAll()
        outputPlaces = [:]
        current.hasReusedOutputs = false
        current.otherOutputs.removeAll()
        if current.attempts != Attempts() {
            eventsBeforeReturn = current.attempts.eventsBefore
            current.attempts.eventsBefore = log.lastID
        }
        returns += 1
        version += 1
    }

    /// It is the run before that goes on after all.
    mutating func resumed() {
        guard let before = eventsBeforeReturn else { return }
        current.attempts.eventsBefore = before
        eventsBeforeReturn = nil
        version += 1
    }

    /// What viewers were told of the present run, seen by them already or not.
    var told: Job.Told {
        let nodes = log.replayable(after: current.attempts.eventsBefore).compactMap { if case .node(let node) = $0.event { node } else { nil } }
        return Job.Told(nodes: nodes, progress: log.newestProgress ?? current.progress)
    }

    mutating func complete(outputNodes: Set<Name>, inputs: [Submission.Input]) { submission.complete(outputNodes: outputNodes, inputs: inputs) }

    // MARK: The status

    mutating func started(at date: Date = Date()) {
        guard current.status == .queued else { return }
        enter(.running, at: date)
        current.startedAt = date
    }

    mutating func cancellationRequested() {
        guard current.cancellation != .requested else { return }
        current.cancellation = .requested
        version += 1
    }

    /// - Returns: who is to be told, if a worker has the job.
    mutating func requestCancel(at date: Date = Date()) -> (@Sendable () -> Void)? {
        guard current.status == .queued || current.status == .running else { return nil }
        enter(.canceling, at: date)
        return cancelHandler
    }

    /// - Parameter isOnDisk: the workflow's text is found there.
    mutating func finish(_ status: JobStatus, error: JobError?, isOnDisk: Bool, at date: Date = Date()) {
        enter(status, error: error, at: date)
        current.completedAt = date
        cancelHandler = nil
        submission.keepRecordOnly(isOnDisk: isOnDisk)
    }

    /// Every change of the status.
    private mutating func enter(_ status: JobStatus, error: JobError? = nil, at date: Date) {
        current.status = status
        current.error = error
        current.statusChangedAt = date
        current.queuePosition = nil
        log.append(.status(status, error: error))
        version += 1
    }
}
