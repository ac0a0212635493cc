package import FoundationEssentials
import OrderedCollections
package import OrderedJSON
import Synchronization

/// One execution of a workflow, from submission to expiry: what is known of it, and who watches.
///
/// Owned by the `JobService`; changed by it and by the worker that has the job. Every method may be called from any
/// thread. Everything that changes is in three values behind one lock, so that a snapshot and a subscription fit together exactly: what is
/// true (`JobRecord`), what of that callers are shown (`Visibility`), and whom to tell (`Audience`). What they say is to be done is done after the lock.
package final class Job: Sendable {
    package let id: JobID
    package let createdAt: Date
    /// Jobs with a higher one run first.
    package let priority: Int
    package let timeline = JobTimeline()

    /// Where what happens is written down; nil where nothing outlives the process.
    let journal: (any JobJournal)?
    /// Where the events of a job that was over before it came into memory are.
    let archive: (any EventArchive)?
    let firstArchivedID: UInt64
    private let timers: any Timers
    let state: Mutex<State>

    struct State {
        var record: JobRecord
        var visibility: Visibility
        var audience = Audience()
        var slot = RenderingSlot.empty
        /// That the job waits in, now or before.
        weak var queue: JobQueue?
    }

    /// - Parameter journal: of the store that the job will be inserted into.
    package init(
        id: JobID = JobID(), submission: Submission, previewLimit: Int = 16, createdAt: Date = Date(), timers: any Timers = SystemTimers(),
        journal: (any JobJournal)? = nil
    ) {
        self.id = id
        self.createdAt = createdAt
        self.timers = timers
        self.journal = journal
        archive = nil
        firstArchivedID = 0
        priority = submission.options.priority
        let log = EventLog(previewLimit: previewLimit, isHiddenUntilWritten: journal != nil)
        let record = JobRecord(submission: submission, log: log, createdAt: createdAt)
        state = Mutex(State(record: record, visibility: Visibility(record, isJournaled: journal != nil)))
    }

    /// A job of a former process, or one that left the memory after its end.
    ///
    /// - Parameter archive: has the events of one that is over; nil for one that goes on.
    package init(
        _ stored: StoredJob, previewLimit: Int, timers: any Timers = SystemTimers(), journal: any JobJournal, archive: (any EventArchive)?
    ) {
        id = stored.id
        createdAt = stored.createdAt
        self.timers = timers
        self.journal = journal
        self.archive = archive
        firstArchivedID = stored.firstEventID
        priority = stored.submission.options.priority
        let record = JobRecord(stored, previewLimit: previewLimit)
        state = Mutex(State(record: record, visibility: Visibility(stored: record)))
    }

    // MARK: What is known

    /// As callers see it.
    package var snapshot: Snapshot {
        var (snapshot, queue) = state.withLock { ($0.snapshot, $0.queue) }
        // Not while the job is locked: the queue locks jobs.
        if snapshot.status == .queued, let place = queue?.place(of: self) { snapshot.queuePosition = place.position }
        return snapshot
    }
    /// As it is, which callers may not know yet.
    package var current: Snapshot { state.withLock { $0.record.current } }
    package var status: JobStatus { state.withLock { $0.record.current.status } }
    package var submission: Submission { state.withLock { $0.record.submission } }
    package var metadata: JSONObject? { state.withLock { $0.record.submission.metadata } }
    /// The outputs so far, those included that callers do not see yet.
    package var outputs: OutputList { state.withLock { $0.record.current.outputs } }
    /// The one with this asset.
    package func output(_ assetID: String) -> Output? { state.withLock { $0.record.output(assetID) } }
    package var attempts: Attempts { state.withLock { $0.record.current.attempts } }
    package var assignment: String? { state.withLock { $0.record.current.assignment } }
    /// What viewers were told of the present run, seen by them already or not.
    package var told: Job.Told { state.withLock { $0.record.told } }
    /// Nobody wants the job but callers that block: it ends, rather than let them hang, when no ComfyUI can be reached.
    package var failsWhenUnreachable: Bool { state.withLock { $0.record.failsWhenUnreachable } }
    /// The job's `Idempotency-Key` may make another job, as far as `POST /run` is concerned.
    package var releasesKey: Bool { state.withLock { $0.releasesKey } }

    package var latestPreview: Preview? { state.withLock { $0.record.log.latestPreview?.preview } }
    /// The preview with this number; nil when there was none or it is no longer kept.
    package func preview(_ number: Int) -> Preview? {
        state.withLock { state in state.record.log.previews.lazy.compactMap(\.preview).first { $0.number == number } }
    }
    package var previewBytes: Int { state.withLock { state in state.record.log.previews.reduce(0) { $0 + ($1.preview?.bytes.count ?? 0) } } }
    /// The number of the newest preview that is not after this place any more.
    package func previewNumber(upTo cursor: UInt64) -> Int {
        state.withLock { state in
            let next = state.record.log.previews.first { $0.sequence > cursor }?.preview
            return next.map { $0.number - 1 } ?? state.record.previewCount
        }
    }
    package func dropPreviews() { state.withLock { $0.record.log.dropPreviews() } }
    /// Nobody is likely to read along any more.
    package func forgetRenderings() {
        state.withLock { state in
            state.slot.close()
            state.record.log.forgetRenderings()
        }
    }
    /// What viewers share besides what they are sent of each event, made by the first of them.
    package func rendering<Rendering: SharedRendering>(_ make: () -> Rendering) -> Rendering { state.withLock { $0.slot.rendering(make) } }

    // MARK: Waiting

    /// Waits for a status that is wanted, which one that ends the job always is, or until the task is cancelled.
    ///
    /// - Parameters:
    ///   - limit: how long at most; nil waits as long as it takes.
    ///   - isCaller: the wait also ends with `turnAwayCallers`.
    ///   - isWanted: called with the lock of the job: it must not call back into it.
    package func wait(atMost limit: Duration? = nil, isCaller: Bool = false, until isWanted: @escaping @Sendable (JobStatus) -> Bool) async {
        if let limit, limit <= .zero { return }
        let token = state.withLock { $0.audience.makeToken() }
        var timer: (any ScheduledTimer)?
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let waiter = Audience.Waiter(isWanted: isWanted, isCaller: isCaller) { continuation.resume() }
                guard let request = state.withLock({ $0.add(waiter, token) }) else { return continuation.resume() }
                if let limit { timer = timers.schedule(after: limit) { [weak self] in self?.endWait(token) } }
                ask(request)
            }
        } onCancel: {
            endWait(token)
        }
        timer?.cancel()
    }

    private func endWait(_ token: UInt64) { state.withLock { $0.audience.removeWaiter(token) }?.resume() }

    /// How many wait.
    var waiterCount: Int { state.withLock { $0.audience.waiterCount } }

    /// Ends the waiting of blocked callers, but not the job.
    package func turnAwayCallers() { perform(state.withLock { Effects(call: $0.audience.turnAwayCallers()) }) }

    // MARK: Callers

    /// Registers a caller. Returns false when the job has released its key (`Snapshot.releasesKey`): the caller gets a new job.
    @discardableResult
    package func attach(_ interest: Interest) -> Bool {
        state.withLock { state in
            guard !state.releasesKey else { return false }
            state.record.attach(interest)
            return true
        }
    }

    /// A blocked caller has its answer.
    ///
    /// - Parameter isPromised: which says that the job goes on.
    package func detachCaller(isPromised: Bool = false) { state.withLock { $0.record.callerAnswered(isPromised: isPromised) } }

    // MARK: Changing

    /// What is to be done without the lock.
    struct Effects: Sendable {
        var call = Audience.Call()
        var request = Visibility.Request.none
    }

    /// Changes a job that is not over, and tells whom it concerns.
    @discardableResult
    func change<Result: Sendable>(_ body: (inout JobRecord) -> Result) -> Result? {
        let (result, effects) = state.withLock { $0.change(body) }
        perform(effects)
        return result
    }

    /// A worker has the job, which nobody else is told of. Returns false when it was canceled meanwhile and must not be run.
    package func taken(cancelHandler: @escaping @Sendable () -> Void) -> Bool { state.withLock { $0.record.taken(cancelHandler: cancelHandler) } }

    /// That the job is about to be put into.
    func setQueue(_ queue: JobQueue) { state.withLock { $0.queue = queue } }

    private func perform(_ effects: Effects) {
        for call in effects.call.calls { call() }
        if let place = effects.call.heldBack {
            _ = timers.schedule(after: Audience.companionTime) { [weak self] in
                guard let self else { return }
                perform(state.withLock { Effects(call: $0.audience.companionTimeIsOver(place)) })
            }
        }
        ask(effects.request)
    }

    func ask(_ request: Visibility.Request) {
        switch request {
        case .none: break
        case .write(let isAwaited): journal?.enqueue(self, isAwaited: isAwaited)
        case .hurry: journal?.hurry()
        }
    }
}

extension Job: JournaledJob {
    package func beginWriting() -> Unwritten { state.withLock { $0.visibility.beginWriting($0.record) } }

    @discardableResult
    package func endWriting(_ unwritten: Unwritten, isKept: Bool = true) -> Bool {
        let (isWritten, call) = state.withLock { $0.endWriting(unwritten, isKept: isKept) }
        perform(Effects(call: call))
        return isWritten
    }
}

extension LoggedEvent {
    fileprivate var preview: Preview? { if case .preview(let preview) = event { preview } else { nil } }
}
