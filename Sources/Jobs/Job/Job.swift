package import Dispatch
package import FoundationEssentials
import OrderedCollections
package import OrderedJSON
import Synchronization
import Wording

/// One execution of a workflow, from submission to expiry: what is known of it, and who watches.
///
/// Owned by the `JobService`; changed by it and by the worker that has the job. Every method may be called from any
/// thread. Everything that changes is behind one lock, so that a snapshot and a subscription fit together exactly.
package final class Job: Sendable {
    package let id: JobID
    package let createdAt: Date
    /// Jobs with a higher one run first.
    package let priority: Int
    package let timeline = JobTimeline()
    package let pieces = SharedPieces()

    /// Where what happens is written down; nil where nothing outlives the process.
    private let journal: (any JobJournal)?
    /// Where the events of a job that was over before it came into memory are.
    private let archive: (any EventArchive)?
    private let firstArchivedID: UInt64
    private let patience: DispatchTimeInterval
    private let state: Mutex<State>

    fileprivate struct State {
        package var submission: Submission
        /// As it is. What callers see is `visible`.
        package var now: Snapshot
        /// As it was written down last, so that nobody is told what a crash would undo. The same as `now` where nothing is written.
        package var visible: Snapshot
        package var queuePosition: Int?
        var previewCount = 0
        package var log: EventLog
        package var viewers: [UInt64: @Sendable () -> Void] = [:]
        /// The place in the log of the progress that viewers are not told of yet; nil when they know of everything.
        var heldBack: UInt64?
        var waiters: [UInt64: Waiter] = [:]
        var nextToken: UInt64 = 0
        /// Takes cancel requests while a worker has the job.
        package var cancelHandler: (@Sendable () -> Void)?
        package var callers = Callers()
        /// Viewers were told that ComfyUI cannot be reached, and not yet that it is back.
        var isAbsenceTold = false
        /// Where the first of the outputs are, by their assets; the others are added when somebody looks for one.
        var outputPlaces: [Name: Int] = [:]
        /// How often the outputs were taken back.
        package var returns = 0
        /// `Attempts.eventsBefore` as it was before the last time.
        var eventsBeforeReturn: UInt64?
        /// When the progress was last given to the journal.
        var progressNoted = ContinuousClock.now
        /// Counts the changes of what is written besides events.
        package var version: UInt64 = 1
        /// How far the job is written down, and how far it was taken to be.
        package var written = Extent()
        package var taken = Extent()
        /// Whether the journal will ask for what is unwritten. It need not be told until the job is inserted, which writes it.
        var journaling = Journaling.soon
    }

    fileprivate enum Journaling {
        case none
        /// Within moments.
        case lazy
        /// As soon as possible: somebody waits to see it.
        case soon
    }

    fileprivate enum JournalRequest {
        case none
        case write(isAwaited: Bool)
        /// What it was asked for without hurry.
        case hurry
    }

    fileprivate struct Waiter {
        package let isWanted: @Sendable (JobStatus) -> Bool
        /// It is a blocked caller, which `turnAwayCallers` sends away.
        package let isCaller: Bool
        package let continuation: CheckedContinuation<Void, Never>
    }

    /// What a caller expects of the job that it submits or attaches to.
    package enum Interest: Sendable, Equatable {
        /// It waits for the end of the job.
        ///
        /// - Parameter endsJob: when it hangs up, and nobody else wants the job, the job is canceled.
        case blocks(endsJob: Bool)
        /// It is told that the job goes on, whoever waits for it.
        case isPromised
    }

    fileprivate struct Callers {
        /// How many block for the job.
        var blocked = 0
        /// One of them said that the job goes on without it.
        var outlivesThem = false
        /// Somebody was told that it goes on.
        package var isPromised = false
    }

    /// Why a job is to be canceled.
    package enum Cancellation: String, Sendable {
        case requested
        /// Nobody asked for it; the last caller that waited hung up.
        case callerLeft = "caller_left"
    }

    /// How long a progress event waits for what comes with it before viewers are told of it alone. ComfyUI sends the preview of a step
    /// right behind its progress: 93 % of those in the recordings came within 1 ms. Together they are one system call, one wake-up and one
    /// read for each of thousands of viewers instead of two, and the preview does not wait until all have had the progress.
    package static let patience = DispatchTimeInterval.milliseconds(2)

    /// - Parameter journal: of the store that the job will be inserted into.
    package init(
        id: JobID = JobID(), submission: Submission, previewLimit: Int = 16, createdAt: Date = Date(), patience: DispatchTimeInterval = Job.patience,
        journal: (any JobJournal)? = nil
    ) {
        self.id = id
        self.createdAt = createdAt
        self.patience = patience
        self.journal = journal
        archive = nil
        firstArchivedID = 0
        priority = submission.options.priority
        var log = EventLog(previewLimit: previewLimit, isHiddenUntilWritten: journal != nil)
        log.append(.status(.queued, error: nil))
        let snapshot = Snapshot(status: .queued, statusChangedAt: createdAt)
        state = Mutex(State(submission: submission, now: snapshot, visible: snapshot, log: log))
    }

    /// A job of a former process, or one that left the memory after its end.
    package init(_ stored: StoredJob, previewLimit: Int, journal: any JobJournal, archive: (any EventArchive)?) {
        id = stored.id
        createdAt = stored.createdAt
        patience = Self.patience
        self.journal = journal
        self.archive = archive
        firstArchivedID = stored.firstEventID
        priority = stored.submission.options.priority
        var state = State(
            submission: stored.submission, now: stored.snapshot, visible: stored.snapshot,
            log: EventLog(previewLimit: previewLimit, past: stored.events, lastID: stored.lastEventID))
        state.written = Extent(
            eventID: stored.lastEventID, outputCount: stored.snapshot.outputs.count, version: state.version, status: stored.snapshot.status)
        state.taken = state.written
        state.journaling = .none
        // Whoever blocked for it is gone, and the job is not.
        state.callers.isPromised = true
        // How many previews there were nobody wrote down. Their numbers are in links, which must not mean another picture now.
        if stored.snapshot.startedAt != nil { state.previewCount = Int(max(0, Date().timeIntervalSince(stored.createdAt)) * 1000) }
        self.state = Mutex(state)
    }

    // MARK: What is known

    /// A consistent copy of everything a caller may ask for.
    package struct Snapshot: Sendable {
        package var status: JobStatus
        package var statusChangedAt: Date
        package var startedAt: Date?
        package var completedAt: Date?
        package var queuePosition: Int?
        package var progress: JobProgress?
        package var outputs: OutputList = []
        /// At least one of the outputs is an earlier run's, from ComfyUI's cache.
        package var hasReusedOutputs = false
        /// Results that are neither files nor text, by node id, as ComfyUI gave them.
        package var otherOutputs: JSONObject = [:]
        package var error: JobError?
        /// Kept beside the error, which a job that is being canceled does not have yet.
        package var cancellation: Cancellation?
        package var attempts = Attempts()
        /// The address of the ComfyUI that has the job, or is about to be given it; nil while the job waits in the bridge.
        package var assignment: String?

        package init(
            status: JobStatus, statusChangedAt: Date, startedAt: Date? = nil, completedAt: Date? = nil, queuePosition: Int? = nil, progress: JobProgress? = nil, outputs: OutputList = [], hasReusedOutputs: Bool = false, otherOutputs: JSONObject = [:], error: JobError? = nil, cancellation: Cancellation? = nil, attempts: Attempts = Attempts(), assignment: String? = nil
        ) {
            self.status = status
            self.statusChangedAt = statusChangedAt
            self.startedAt = startedAt
            self.completedAt = completedAt
            self.queuePosition = queuePosition
            self.progress = progress
            self.outputs = outputs
            self.hasReusedOutputs = hasReusedOutputs
            self.otherOutputs = otherOutputs
            self.error = error
            self.cancellation = cancellation
            self.attempts = attempts
            self.assignment = assignment
        }
    }

    package var submission: Submission { state.withLock { $0.submission } }
    /// As callers see it.
    package var snapshot: Snapshot { state.withLock { $0.snapshot } }
    /// As it is, which callers may not know yet.
    package var present: Snapshot { state.withLock { $0.now } }
    package var status: JobStatus { state.withLock { $0.now.status } }
    package var metadata: JSONObject? { state.withLock { $0.submission.metadata } }
    /// The outputs so far, those included that callers do not see yet.
    package var outputs: OutputList { state.withLock { $0.now.outputs } }
    /// The one with this asset.
    package func output(_ assetID: String) -> Output? { state.withLock { $0.output(assetID) } }
    package var attempts: Attempts { state.withLock { $0.now.attempts } }
    package var assignment: String? { state.withLock { $0.now.assignment } }

    package var latestPreview: Preview? { state.withLock { $0.log.latestPreview?.preview } }
    /// The preview with this number; nil when there was none or it is no longer kept.
    package func preview(_ number: Int) -> Preview? {
        state.withLock { state in state.log.previews.lazy.compactMap(\.preview).first { $0.number == number } }
    }
    var previewBytes: Int { state.withLock { state in state.log.previews.reduce(0) { $0 + ($1.preview?.bytes.count ?? 0) } } }
    /// The number of the newest preview that is not after this place any more.
    package func previewNumber(upTo cursor: UInt64) -> Int {
        state.withLock { state in
            let next = state.log.previews.first { $0.sequence > cursor }?.preview
            return next.map { $0.number - 1 } ?? state.previewCount
        }
    }
    func dropPreviews() { state.withLock { $0.log.dropPreviews() } }
    /// Nobody is likely to read along any more.
    func forgetEncodings() {
        pieces.forget()
        state.withLock { $0.log.forgetEncodings() }
    }

    // MARK: Waiting and watching

    /// Waits for a status that is wanted, which one that ends the job always is, or until the task is cancelled.
    ///
    /// - Parameters:
    ///   - isWanted: called with the lock of the job: it must not call back into it.
    ///   - isCaller: the wait also ends with `turnAwayCallers`.
    package func wait(isCaller: Bool = false, until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        let token = state.withLock { $0.makeToken() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (isReached, request) = state.withLock { state -> (Bool, JournalRequest) in
                    guard !state.visible.status.isTerminal, !isWanted(state.visible.status), !Task.isCancelled else { return (true, .none) }
                    state.waiters[token] = Waiter(isWanted: isWanted, isCaller: isCaller, continuation: continuation)
                    return (false, state.journalRequest())
                }
                if isReached { continuation.resume() }
                ask(request)
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters.removeValue(forKey: token) }
            waiter?.continuation.resume()
        }
    }

    /// The same with a limit; nil waits as long as it takes.
    package func wait(atMost limit: Duration?, isCaller: Bool = false, until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        guard let limit else { return await wait(isCaller: isCaller, until: isWanted) }
        guard limit > .zero else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait(isCaller: isCaller, until: isWanted) }
            group.addTask { do { try await Task.sleep(for: limit) } catch {} }  // cancelled: the job was first
            await group.next()
            group.cancelAll()
        }
    }

    /// Where a viewer begins.
    package enum Start: Sendable {
        /// With a picture of the present.
        case snapshot
        /// After the replayable event with this id.
        case after(id: UInt64)
    }

    /// What a new viewer is sent before the live events.
    package struct Opening: Sendable {
        /// Set when events that the viewer asked for are gone, or never were; a snapshot follows then.
        package let reset: Bool
        package let snapshot: [JobEvent]
        /// The newest id that the snapshot covers; nil when the viewer continues after its own id.
        package let coveredID: UInt64?
        package let cursor: UInt64
        package let token: UInt64
    }

    /// Registers a viewer; nil when it has seen all of a finished job. Snapshot and registration are one step: no event
    /// falls between them, none comes twice.
    ///
    /// - Parameter wake: called, from any thread and without the lock of the job, whenever there may be more events. It must
    ///   not call back into the job or the queue.
    package func watch(from start: Start, wake: @escaping @Sendable () -> Void) -> Opening? {
        let (opening, request) = state.withLock { state -> (Opening?, JournalRequest) in
            let opening: Opening
            var isReset = false
            var cursor: UInt64?
            if case .after(let id) = start {
                // Ids are the cursors of what is in the archive.
                if id <= state.log.visibleID { cursor = archive == nil ? state.log.cursor(afterID: id) : id + 1 >= firstArchivedID ? id : nil }
                if cursor != nil, state.visible.status.isTerminal, id == state.log.visibleID { return (nil, .none) }
                isReset = cursor == nil
            }
            if let cursor {
                opening = Opening(reset: false, snapshot: [], coveredID: nil, cursor: cursor, token: state.makeToken())
            } else {
                opening = Opening(
                    reset: isReset, snapshot: state.openingEvents, coveredID: state.log.visibleID, cursor: state.log.end, token: state.makeToken())
            }
            state.viewers[opening.token] = wake
            return (opening, state.journalRequest())
        }
        ask(request)
        return opening
    }

    package func unwatch(_ token: UInt64) {
        _ = state.withLock { $0.viewers.removeValue(forKey: token) }
    }

    /// The next events after a cursor, in order, at most `limit`; nil when they cannot be read (any more).
    package func events(after cursor: UInt64, limit: Int) -> [LoggedEvent]? {
        let (events, lastID) = state.withLock { ($0.log.events(after: cursor, limit: limit), $0.log.visibleID) }
        guard let archive, events.isEmpty, cursor < lastID else { return events }
        return archive.events(of: self, after: cursor, limit: limit)
    }

    // MARK: Callers

    /// Registers a caller. Returns false when the job has released its key (`Snapshot.releasesKey`): the caller gets a new job.
    @discardableResult
    package func attach(_ interest: Interest) -> Bool {
        state.withLock { state in
            guard !state.releasesKey else { return false }
            switch interest {
            case .blocks(let endsJob):
                state.callers.blocked += 1
                if !endsJob { state.callers.outlivesThem = true }
            case .isPromised: state.callers.isPromised = true
            }
            return true
        }
    }

    /// A blocked caller has its answer.
    ///
    /// - Parameter isPromised: which says that the job goes on.
    package func detachCaller(isPromised: Bool = false) {
        state.withLock { state in
            state.callers.blocked -= 1
            if isPromised { state.callers.isPromised = true }
        }
    }

    /// A blocked caller went away. Returns true when with it the last one went who wants the job: it is to be canceled.
    package func callerLeft() -> Bool {
        change { state in
            state.callers.blocked -= 1
            guard state.callers.blocked == 0, !state.callers.outlivesThem, !state.callers.isPromised, state.now.cancellation == nil else { return false }
            state.now.cancellation = .callerLeft
            state.version += 1
            return true
        } ?? false
    }

    /// Nobody wants the job but callers that block: it ends, rather than let them hang, when no ComfyUI can be reached.
    package var failsWhenUnreachable: Bool { state.withLock { $0.callers.blocked > 0 && !$0.callers.isPromised } }

    /// Ends the waiting of blocked callers, but not the job.
    package func turnAwayCallers() {
        let callers = state.withLock { state in
            let tokens = state.waiters.filter(\.value.isCaller).keys
            return tokens.compactMap { state.waiters.removeValue(forKey: $0) }
        }
        for caller in callers { caller.continuation.resume() }
    }

    /// The job's `Idempotency-Key` may make another job, as far as `POST /run` is concerned.
    package var releasesKey: Bool { state.withLock { $0.releasesKey } }

    // MARK: Changes

    /// How old the progress may be that the bridge after this one goes on from.
    private static let progressAge = Duration.milliseconds(100)

    /// Adds an event for viewers. After the end of the job nothing is added any more.
    package func publish(_ event: JobEvent) {
        change { state in
            state.log.append(event)
            guard case .progress = event, journal != nil, .now - state.progressNoted >= Self.progressAge else { return }
            state.progressNoted = .now
            state.version += 1
        }
    }

    /// No ComfyUI that can run the job can be reached, or the one that has it cannot: viewers are told once.
    package func noteAbsence(_ message: @autoclosure () -> String) {
        change { state in
            guard !state.isAbsenceTold else { return }
            state.isAbsenceTold = true
            state.log.append(.log(LogEntry(.warning, message())))
        }
    }

    /// A ComfyUI is back; told to those who were told that it was away.
    package func noteReturn() {
        change { state in
            guard state.isAbsenceTold else { return }
            state.isAbsenceTold = false
            state.log.append(.log(LogEntry(.info, "ComfyUI is back.")))
        }
    }

    package func publish(preview bytes: [UInt8], node: String, contentType: String) -> Preview? {
        change { state in
            state.previewCount += 1
            let preview = Preview(number: state.previewCount, node: node, contentType: contentType, bytes: bytes)
            state.log.append(.preview(preview))
            return preview
        }
    }

    package func add(_ output: Output) {
        change { state in
            state.now.outputs.append(output)
            state.log.append(.output(output))
        }
    }

    /// An output of the job comes from ComfyUI's cache.
    package func markReusedOutputs() {
        change { state in
            state.now.hasReusedOutputs = true
            state.version += 1
        }
    }

    package func addOther(_ value: JSON, node: String) {
        change { state in
            var members = state.now.otherOutputs[node]?.object ?? [:]
            members.merge(value.object ?? [:]) { _, newer in newer }
            state.now.otherOutputs[node] = .object(members)
            state.version += 1
        }
    }

    package func moved(toQueuePosition position: Int) {
        change { state in
            guard state.queuePosition != position else { return }
            state.queuePosition = position
            state.log.append(.queuePosition(position))
        }
    }

    /// A worker has the job. Returns false when it was canceled meanwhile and must not be run.
    package func taken(cancelHandler: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.now.status == .queued || state.now.status == .running else { return false }
            state.cancelHandler = cancelHandler
            return true
        }
    }

    /// This ComfyUI has the job, or is about to be given it.
    package func assign(to endpoint: String) {
        change { state in
            guard state.now.assignment != endpoint else { return }
            state.now.assignment = endpoint
            state.version += 1
        }
    }

    /// A run has come to an end, if only to an end of waiting for it. Returns how all of them went.
    @discardableResult
    package func endAttempt(_ count: (inout Attempts) -> Void) -> Attempts {
        change { state in
            let before = state.now.attempts
            count(&state.now.attempts)
            if state.now.attempts != before { state.version += 1 }
            state.cancelHandler = nil
            return state.now.attempts
        } ?? attempts
    }

    /// No ComfyUI has the job any more, and what the run made does not count.
    package func returned() {
        change { state in
            state.now.assignment = nil
            state.now.outputs.removeAll()
            state.outputPlaces = [:]
            state.now.hasReusedOutputs = false
            state.now.otherOutputs.removeAll()
            if state.now.attempts != Attempts() {
                state.eventsBeforeReturn = state.now.attempts.eventsBefore
                state.now.attempts.eventsBefore = state.log.lastID
            }
            state.returns += 1
            state.version += 1
        }
    }

    /// It is the run before that goes on after all.
    package func resumed() {
        change { state in
            guard let before = state.eventsBeforeReturn else { return }
            state.now.attempts.eventsBefore = before
            state.eventsBeforeReturn = nil
            state.version += 1
        }
    }

    /// What viewers were told of the present run, seen by them already or not.
    package var told: Told {
        state.withLock { state in
            let nodes = state.log.replayable(after: state.now.attempts.eventsBefore).compactMap { if case .node(let node) = $0.event { node } else { nil } }
            return Told(nodes: nodes, progress: state.log.newestProgress ?? state.now.progress)
        }
    }

    package func started() {
        timeline.started()
        change { state in
            guard state.now.status == .queued else { return }
            state.enter(.running)
            state.now.startedAt = state.now.statusChangedAt
        }
    }

    /// Somebody wants the job to be canceled, and not only by hanging up.
    func cancellationRequested() {
        change { state in
            guard state.now.cancellation != .requested else { return }
            state.now.cancellation = .requested
            state.version += 1
        }
    }

    /// What only the node list of a ComfyUI can tell of the job has become known.
    package func complete(outputNodes: Set<Name>, inputs: [Submission.Input]) {
        change { $0.submission.complete(outputNodes: outputNodes, inputs: inputs) }
    }

    /// Asks for cancellation of a job that is not in the queue any more. A job without a worker yet is noticed by it in
    /// `taken`.
    func requestCancel() {
        let handler: (@Sendable () -> Void)?? = change { state in
            guard state.now.status == .queued || state.now.status == .running else { return nil }
            state.enter(.canceling)
            return state.cancelHandler
        }
        (handler ?? nil)?()
    }

    /// The end. Only the first call counts; returns whether this was it.
    @discardableResult
    package func finish(_ status: JobStatus, error: JobError? = nil) -> Bool {
        let isFirst: Void? = change { state in
            state.enter(status, error: error)
            timeline.ended()
            state.now.completedAt = state.now.statusChangedAt
            state.cancelHandler = nil
            state.submission.keepRecordOnly(isOnDisk: journal != nil)
        }
        return isFirst != nil
    }

    /// Changes the state of a job that is not over, and wakes whom it concerns afterwards, outside the lock.
    @discardableResult
    private func change<Result: Sendable>(_ body: (inout State) -> Result) -> Result? {
        let (result, audience, request) = state.withLock { state -> (Result?, Audience, JournalRequest) in
            guard !state.now.status.isTerminal else { return (nil, Audience(), .none) }
            let end = state.log.end
            let result = body(&state)
            guard journal != nil else {
                let status = state.visible.status
                state.visible = state.now
                return (result, state.audience(since: end, status), .none)
            }
            return (result, state.audience(since: end, state.visible.status), state.journalRequest())
        }
        tell(audience)
        ask(request)
        return result
    }

    private func ask(_ request: JournalRequest) {
        switch request {
        case .none: break
        case .write(let isAwaited): journal?.enqueue(self, isAwaited: isAwaited)
        case .hurry: journal?.hurry()
        }
    }

    private func tell(_ audience: Audience) {
        for waiter in audience.waiters { waiter.continuation.resume() }
        for wake in audience.viewers { wake() }
        if let place = audience.heldBack {
            DispatchQueue.global().asyncAfter(deadline: .now() + patience) { [weak self] in self?.tellHeldBack(place) }
        }
    }

    /// Nothing came with the progress at this place; or it did, and all have been told.
    private func tellHeldBack(_ place: UInt64) {
        tell(state.withLock { $0.heldBack == place ? $0.audienceOfAll() : Audience() })
    }
}

// MARK: Writing down

extension Job {
    /// How much of the job.
    package struct Extent: Sendable, Equatable {
        package var eventID: UInt64 = 0
        var outputCount = 0
        package var returns = 0
        package var version: UInt64 = 0
        /// Nil before the job is inserted.
        package var status: JobStatus?
    }

    /// What is to be written of a job.
    package struct Unwritten: Sendable {
        /// What was taken before, and what will be written when this is.
        package let from: Extent
        package let to: Extent
        package let snapshot: Snapshot
        package let events: [LoggedEvent]

        /// Whether more than events is to be written.
        package var isChanged: Bool { from.version != to.version }
        /// Outputs that were written are not the job's any more.
        package var forgetsOutputs: Bool { from.returns != to.returns }
        /// The first of the snapshot's outputs that was not taken before.
        package var firstNewOutput: Int { forgetsOutputs ? 0 : from.outputCount }
    }

    /// What is to be written down now. The journal's only, which says for each, in this order, whether it was (`wrote`).
    package func takeUnwritten() -> Unwritten {
        state.withLock { state in
            var snapshot = state.now
            snapshot.progress = state.log.newestProgress ?? state.now.progress
            let to = Extent(eventID: state.log.lastID, outputCount: snapshot.outputs.count, returns: state.returns, version: state.version, status: snapshot.status)
            defer { state.taken = to }
            state.journaling = .none
            return Unwritten(from: state.taken, to: to, snapshot: snapshot, events: state.log.replayable(after: state.taken.eventID))
        }
    }

    /// What was taken is on disk, and from now on callers see it.
    ///
    /// - Parameter isKept: false when it could not be written. Callers see it all the same, rather than nothing for as long as the disk
    ///   is full; it is among what is taken the next time.
    /// - Returns: whether it is written, and everything that was taken before.
    @discardableResult
    package func wrote(_ unwritten: Unwritten, isKept: Bool = true) -> Bool {
        let (audience, isWritten) = state.withLock { state -> (Audience, Bool) in
            let (end, status) = (state.log.end, state.visible.status)
            // What follows on something that could not be written is taken again together with that.
            let isWritten = isKept && unwritten.from == state.written
            if isWritten { state.written = unwritten.to } else { state.taken = state.written }
            state.log.reveal(through: unwritten.to.eventID)
            state.visible = unwritten.snapshot
            return (state.audience(since: end, status), isWritten)
        }
        tell(audience)
        return isWritten
    }

    /// Whom a change concerns.
    fileprivate struct Audience: Sendable {
        var waiters: [Waiter] = []
        package var viewers: [@Sendable () -> Void] = []
        /// Begins to be held back from viewers.
        var heldBack: UInt64?
    }
}

extension Job.State {
    fileprivate var snapshot: Job.Snapshot {
        var snapshot = visible
        snapshot.queuePosition = visible.status == .queued ? queuePosition : nil
        snapshot.progress = log.latestProgress?.progress ?? visible.progress
        return snapshot
    }

    /// By an end that callers can see, so that none is forgotten by a crash; or because nobody wants the job any more.
    fileprivate var releasesKey: Bool { visible.status.isTerminal ? visible.releasesKey : now.cancellation == .callerLeft }

    fileprivate mutating func output(_ assetID: String) -> Output? {
        for place in outputPlaces.count..<max(outputPlaces.count, now.outputs.count) { outputPlaces[now.outputs[place].asset.id] = place }
        return outputPlaces[assetID].map { now.outputs[$0] }
    }

    fileprivate var isUnwritten: Bool { version != taken.version || log.lastID > taken.eventID }

    /// Somebody is there to see what has happened, or it is the end, which is not to be found out again.
    private var isAwaited: Bool {
        !viewers.isEmpty || now.status.isTerminal || waiters.values.contains { $0.isWanted(now.status) }
    }

    /// What the journal has to be asked for now.
    fileprivate mutating func journalRequest() -> Job.JournalRequest {
        guard isUnwritten, journaling != .soon, isAwaited || journaling == .none else { return .none }
        defer { journaling = isAwaited ? .soon : .lazy }
        return journaling == .lazy ? .hurry : .write(isAwaited: isAwaited)
    }

    /// Whom it concerns that more is visible than before.
    fileprivate mutating func audience(since end: UInt64, _ status: JobStatus) -> Job.Audience {
        var audience = Job.Audience()
        if log.end != end, !viewers.isEmpty {
            if !log.hasOnlyProgress(after: end) {
                audience = audienceOfAll()
            } else if heldBack == nil {
                heldBack = log.end
                audience.heldBack = heldBack
            }
        }
        if visible.status != status { audience.waiters = takeSatisfiedWaiters() }
        return audience
    }

    /// Every viewer, of everything.
    fileprivate mutating func audienceOfAll() -> Job.Audience {
        heldBack = nil
        return Job.Audience(viewers: Array(viewers.values))
    }

    /// Every change of the status.
    fileprivate mutating func enter(_ status: JobStatus, error: JobError? = nil) {
        now.status = status
        now.error = error
        now.statusChangedAt = Date()
        queuePosition = nil
        log.append(.status(status, error: error))
        version += 1
    }

    fileprivate mutating func takeSatisfiedWaiters() -> [Job.Waiter] {
        let status = visible.status
        let satisfied = status.isTerminal ? waiters : waiters.filter { $0.value.isWanted(status) }
        for token in satisfied.keys { waiters[token] = nil }
        return Array(satisfied.values)
    }

    /// The present as events. The terminal status of a finished job comes last, after its outputs.
    fileprivate var openingEvents: [JobEvent] {
        let snapshot = snapshot
        let status = JobEvent.status(snapshot.status, error: snapshot.error)
        let outputs = snapshot.outputs.map(JobEvent.output)
        if snapshot.status.isTerminal { return [snapshot.progress.map(JobEvent.progress)].compactMap(\.self) + outputs + [status] }
        let latest = [log.latestProgress?.event, log.latestPreview?.event].compactMap(\.self)
        // A queue position is a `status` event too.
        return [snapshot.queuePosition.map(JobEvent.queuePosition) ?? status] + outputs + latest
    }

    fileprivate mutating func makeToken() -> UInt64 {
        nextToken += 1
        return nextToken
    }
}

extension LoggedEvent {
    fileprivate var preview: Preview? { if case .preview(let preview) = event { preview } else { nil } }
    fileprivate var progress: JobProgress? { if case .progress(let progress) = event { progress } else { nil } }
}

extension EventLog {
    /// Also while it is not to be seen yet.
    fileprivate var newestProgress: JobProgress? { newestProgressEvent?.progress }
}
