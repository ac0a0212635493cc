import Foundation
import OrderedCollections
import OrderedJSON
import Synchronization

/// One execution of a workflow, from submission to expiry: what is known of it, and who watches.
///
/// Owned by the `JobService`; changed by it and by the worker that has the job. Every method may be called from any
/// thread. Everything that changes is behind one lock, so that a snapshot and a subscription fit together exactly.
final class Job: Sendable {
    let id: JobID
    let createdAt: Date
    /// Jobs with a higher one run first.
    let priority: Int
    let timeline = JobTimeline()

    private let state: Mutex<State>

    fileprivate struct State {
        var submission: Submission
        var status = JobStatus.queued
        var statusChangedAt: Date
        var startedAt: Date?
        var completedAt: Date?
        var queuePosition: Int?
        var outputs: [Output] = []
        var hasReusedOutputs = false
        var otherOutputs: OrderedDictionary<String, JSON> = [:]
        var error: JobError?
        var previewCount = 0
        var log: EventLog
        var viewers: [UInt64: @Sendable () -> Void] = [:]
        var waiters: [UInt64: Waiter] = [:]
        var nextToken: UInt64 = 0
        /// Takes cancel requests while a worker has the job.
        var cancelHandler: (@Sendable () -> Void)?
        /// Callers that block for the job and whose leaving cancels it.
        var callers = 0
        var attempts = Attempts()
        /// The address of the ComfyUI that has the job, or is about to be given it.
        var assignment: String?
    }

    fileprivate struct Waiter {
        let isWanted: @Sendable (JobStatus) -> Bool
        let continuation: CheckedContinuation<Void, Never>
    }

    init(id: JobID = JobID(), submission: Submission, previewLimit: Int = 16, createdAt: Date = Date()) {
        self.id = id
        self.createdAt = createdAt
        priority = submission.options.priority
        var log = EventLog(previewLimit: previewLimit)
        log.append(.status(.queued, error: nil))
        state = Mutex(State(submission: submission, statusChangedAt: createdAt, log: log))
    }

    // MARK: What is known

    /// A consistent copy of everything a caller may ask for.
    struct Snapshot: Sendable {
        let status: JobStatus
        let statusChangedAt: Date
        let startedAt: Date?
        let completedAt: Date?
        let queuePosition: Int?
        let progress: JobProgress?
        let outputs: [Output]
        /// At least one of the outputs is an earlier run's, from ComfyUI's cache.
        let hasReusedOutputs: Bool
        /// Results that are neither files nor text, by node id, as ComfyUI gave them.
        let otherOutputs: OrderedDictionary<String, JSON>
        let error: JobError?
    }

    var submission: Submission { state.withLock { $0.submission } }
    var snapshot: Snapshot { state.withLock { $0.snapshot } }
    var status: JobStatus { state.withLock { $0.status } }
    var metadata: JSONObject? { state.withLock { $0.submission.metadata } }
    var error: JobError? { state.withLock { $0.error } }
    var attempts: Attempts { state.withLock { $0.attempts } }
    var assignment: String? { state.withLock { $0.assignment } }

    var latestPreview: Preview? { state.withLock { $0.log.latestPreview?.preview } }
    /// The preview with this number; nil when there was none or it is no longer kept.
    func preview(_ number: Int) -> Preview? {
        state.withLock { state in state.log.previews.lazy.compactMap(\.preview).first { $0.number == number } }
    }
    var previewBytes: Int { state.withLock { state in state.log.previews.reduce(0) { $0 + ($1.preview?.bytes.count ?? 0) } } }
    /// The number of the newest preview that is not after this place any more.
    func previewNumber(upTo cursor: UInt64) -> Int {
        state.withLock { state in
            let next = state.log.previews.first { $0.sequence > cursor }?.preview
            return next.map { $0.number - 1 } ?? state.previewCount
        }
    }
    func dropPreviews() { state.withLock { $0.log.dropPreviews() } }

    // MARK: Waiting and watching

    /// Waits for a status that is wanted, which one that ends the job always is, or until the task is cancelled.
    ///
    /// - Parameter isWanted: called with the lock of the job: it must not call back into it.
    func wait(until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        let token = state.withLock { $0.makeToken() }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isReached = state.withLock { state in
                    guard !state.status.isTerminal, !isWanted(state.status), !Task.isCancelled else { return true }
                    state.waiters[token] = Waiter(isWanted: isWanted, continuation: continuation)
                    return false
                }
                if isReached { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters.removeValue(forKey: token) }
            waiter?.continuation.resume()
        }
    }

    /// The same with a limit; nil waits as long as it takes.
    func wait(atMost limit: Duration?, until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        guard let limit else { return await wait(until: isWanted) }
        guard limit > .zero else { return }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.wait(until: isWanted) }
            group.addTask { do { try await Task.sleep(for: limit) } catch {} }  // cancelled: the job was first
            await group.next()
            group.cancelAll()
        }
    }

    /// Where a viewer begins.
    enum Start: Sendable {
        /// With a picture of the present.
        case snapshot
        /// After the replayable event with this id.
        case after(id: UInt64)
    }

    /// What a new viewer is sent before the live events.
    struct Opening: Sendable {
        /// Set when events that the viewer asked for are gone, or never were; a snapshot follows then.
        let reset: Bool
        let snapshot: [JobEvent]
        /// The newest id that the snapshot covers; nil when the viewer continues after its own id.
        let coveredID: UInt64?
        let cursor: UInt64
        let token: UInt64
    }

    /// Registers a viewer; nil when it has seen all of a finished job. Snapshot and registration are one step: no event
    /// falls between them, none comes twice.
    ///
    /// - Parameter wake: called, from any thread and without the lock of the job, whenever there may be more events. It must
    ///   not call back into the job or the queue.
    func watch(from start: Start, wake: @escaping @Sendable () -> Void) -> Opening? {
        state.withLock { state -> Opening? in
            let opening: Opening
            switch start {
            case .after(let id) where id <= state.log.lastID && state.log.cursor(afterID: id) != nil:
                if state.status.isTerminal, id == state.log.lastID { return nil }
                opening = Opening(
                    reset: false, snapshot: [], coveredID: nil, cursor: state.log.cursor(afterID: id)!, token: state.makeToken())
            case .after, .snapshot:
                var isReset = false
                if case .after = start { isReset = true }
                opening = Opening(
                    reset: isReset, snapshot: state.openingEvents, coveredID: state.log.lastID, cursor: state.log.end, token: state.makeToken())
            }
            state.viewers[opening.token] = wake
            return opening
        }
    }

    func unwatch(_ token: UInt64) {
        _ = state.withLock { $0.viewers.removeValue(forKey: token) }
    }

    func events(after cursor: UInt64, limit: Int) -> [LoggedEvent] {
        state.withLock { $0.log.events(after: cursor, limit: limit) }
    }

    func attachCaller() {
        state.withLock { $0.callers += 1 }
    }

    /// Returns how many callers are left.
    @discardableResult
    func detachCaller() -> Int {
        state.withLock { state in
            state.callers -= 1
            return state.callers
        }
    }

    // MARK: Changes

    /// Adds an event for viewers. After the end of the job nothing is added any more.
    func publish(_ event: JobEvent) {
        change { $0.log.append(event) }
    }

    func publish(preview bytes: [UInt8], node: String, contentType: String) -> Preview? {
        change { state in
            state.previewCount += 1
            let preview = Preview(number: state.previewCount, node: node, contentType: contentType, bytes: bytes)
            state.log.append(.preview(preview))
            return preview
        }
    }

    func add(_ output: Output) {
        change { state in
            state.outputs.append(output)
            state.log.append(.output(output))
        }
    }

    /// An output of the job comes from ComfyUI's cache.
    func markReusedOutputs() {
        change { $0.hasReusedOutputs = true }
    }

    func addOther(_ value: JSON, node: String) {
        change { state in
            var members = state.otherOutputs[node]?.object ?? [:]
            members.merge(value.object ?? [:]) { _, newer in newer }
            state.otherOutputs[node] = .object(members)
        }
    }

    func moved(toQueuePosition position: Int) {
        change { state in
            guard state.queuePosition != position else { return }
            state.queuePosition = position
            state.log.append(.queuePosition(position))
        }
    }

    /// A worker has the job. Returns false when it was canceled meanwhile and must not be run.
    func taken(cancelHandler: @escaping @Sendable () -> Void) -> Bool {
        state.withLock { state in
            guard state.status == .queued || state.status == .running else { return false }
            state.cancelHandler = cancelHandler
            return true
        }
    }

    /// This ComfyUI has the job, or is about to be given it.
    func assign(to endpoint: String) {
        state.withLock { $0.assignment = endpoint }
    }

    /// A run has come to an end, if only to an end of waiting for it. Returns how all of them went.
    func count(_ end: RunEnd, on endpoint: String) -> Attempts {
        state.withLock { state in
            state.attempts.count(end, on: endpoint)
            state.cancelHandler = nil
            return state.attempts
        }
    }

    /// No ComfyUI has the job any more, and what the run made does not count.
    func returned() {
        state.withLock { state in
            state.assignment = nil
            state.outputs.removeAll()
            state.hasReusedOutputs = false
            state.otherOutputs.removeAll()
        }
    }

    func started() {
        timeline.started()
        change { state in
            guard state.status == .queued else { return }
            state.enter(.running)
            state.startedAt = state.statusChangedAt
        }
    }

    /// Asks for cancellation of a job that is not in the queue any more. A job without a worker yet is noticed by it in
    /// `taken`.
    func requestCancel() {
        let handler: (@Sendable () -> Void)?? = change { state in
            guard state.status == .queued || state.status == .running else { return nil }
            state.enter(.canceling)
            return state.cancelHandler
        }
        (handler ?? nil)?()
    }

    /// The end. Only the first call counts; returns whether this was it.
    @discardableResult
    func finish(_ status: JobStatus, error: JobError? = nil) -> Bool {
        let isFirst: Void? = change { state in
            state.enter(status, error: error)
            timeline.ended()
            state.completedAt = state.statusChangedAt
            state.cancelHandler = nil
            state.submission.keepRecordOnly()
        }
        return isFirst != nil
    }

    /// Changes the state of a job that is not over, and wakes whom it concerns afterwards, outside the lock.
    @discardableResult
    private func change<Result: Sendable>(_ body: (inout State) -> Result) -> Result? {
        let (result, waiters, viewers) = state.withLock { state -> (Result?, [Waiter], [UInt64: @Sendable () -> Void]) in
            guard !state.status.isTerminal else { return (nil, [], [:]) }
            let (status, end) = (state.status, state.log.end)
            let result = body(&state)
            return (result, state.status == status ? [] : state.takeSatisfiedWaiters(), state.log.end == end ? [:] : state.viewers)
        }
        for waiter in waiters { waiter.continuation.resume() }
        for wake in viewers.values { wake() }
        return result
    }
}

extension Job.State {
    fileprivate var snapshot: Job.Snapshot {
        Job.Snapshot(
            status: status, statusChangedAt: statusChangedAt, startedAt: startedAt, completedAt: completedAt, queuePosition: queuePosition,
            progress: log.latestProgress?.progress, outputs: outputs, hasReusedOutputs: hasReusedOutputs, otherOutputs: otherOutputs, error: error)
    }

    /// Every change of the status.
    fileprivate mutating func enter(_ status: JobStatus, error: JobError? = nil) {
        self.status = status
        self.error = error
        statusChangedAt = Date()
        queuePosition = nil
        log.append(.status(status, error: error))
    }

    fileprivate mutating func takeSatisfiedWaiters() -> [Job.Waiter] {
        let satisfied = status.isTerminal ? waiters : waiters.filter { $0.value.isWanted(status) }
        for token in satisfied.keys { waiters[token] = nil }
        return Array(satisfied.values)
    }

    /// The present as events. The terminal status of a finished job comes last, after its outputs.
    fileprivate var openingEvents: [JobEvent] {
        let status = JobEvent.status(status, error: error)
        let outputs = outputs.map(JobEvent.output)
        if self.status.isTerminal { return [log.latestProgress?.event].compactMap(\.self) + outputs + [status] }
        let latest = [log.latestProgress?.event, log.latestPreview?.event].compactMap(\.self)
        // A queue position is a `status` event too.
        return [queuePosition.map(JobEvent.queuePosition) ?? status] + outputs + latest
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
