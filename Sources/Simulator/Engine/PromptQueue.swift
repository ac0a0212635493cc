import Dispatch
import OrderedCollections
import OrderedJSON
import Synchronization

/// Queue and history under one lock, so that a prompt is never in neither (protocol sections 3, 8.3 and 11).
///
/// Filled from the event loop, emptied by the worker thread. ComfyUI bounds neither the queue nor (short of 10 000 entries) the history.
final class PromptQueue: Sendable {
    private static let maximumHistory = 10_000

    private struct State {
        var counter = 0
        var pending = PythonHeap()
        var running: Prompt?
        var history = History()
        /// Prompts that have ended, whose entries come later.
        var late: [String] = []
        var freeMemory = false
        var isClosed = false

        var remaining: Int { pending.items.count + (running == nil ? 0 : 1) }
    }

    private let state = Mutex(State())
    /// Announces a new length. Called under the lock, as ComfyUI does it: a prompt's first `status` must not come after the worker's own
    /// events.
    private let lengthChanged: @Sendable (_ remaining: Int) -> Void
    /// Signalled whenever the worker may have something to do; spare signals only make it look once more.
    private let work = DispatchSemaphore(value: 0)
    private let tally: Tally

    /// - Parameter lengthChanged: must not call back into the queue.
    init(tally: Tally, lengthChanged: @escaping @Sendable (_ remaining: Int) -> Void) {
        self.tally = tally
        self.lengthChanged = lengthChanged
    }

    var remaining: Int { state.withLock { $0.remaining } }
    var runningID: String? { state.withLock { $0.running?.id } }

    /// The number for a prompt without one; it advances for rejected prompts too.
    func nextCounter() -> Int {
        state.withLock { state in
            defer { state.counter += 1 }
            return state.counter
        }
    }

    // MARK: The event loop's side

    /// - Throws: when an equal entry is pending; the prompt is queued anyway, unannounced.
    func put(_ prompt: Prompt) throws {
        try state.withLock { state in
            tally.count(prompt.id) { $0.accepted += 1 }
            try state.pending.push(prompt)
            lengthChanged(state.remaining)
        }
        work.signal()
    }

    func snapshot() -> (running: [Prompt], pending: [Prompt]) {
        state.withLock { state in (state.running.map { [$0] } ?? [], state.pending.items) }
    }

    /// The snapshot together with the history, oldest first, under one lock.
    func everything() -> (running: [Prompt], pending: [Prompt], history: [HistoryEntry]) {
        state.withLock { state in (state.running.map { [$0] } ?? [], state.pending.items, state.history.entries) }
    }

    func wipe() {
        state.withLock { state in
            for prompt in state.pending.items { tally.count(prompt.id) { $0.removed += 1 } }
            state.pending.removeAll()
            lengthChanged(state.remaining)
        }
    }

    /// Removes the first pending prompt of that id. An unknown id changes nothing; the last one is announced twice.
    @discardableResult
    func delete(_ id: String) throws -> Bool {
        try state.withLock { state in
            guard let index = state.pending.items.firstIndex(where: { $0.id == id }) else { return false }
            tally.count(id) { $0.removed += 1 }
            let isLast = state.pending.items.count == 1
            try state.pending.remove(at: index)
            lengthChanged(state.remaining)
            if isLast { lengthChanged(state.remaining) }
            return true
        }
    }

    /// Removes a pending prompt, or interrupts the running one, in one step.
    ///
    /// - Parameter interrupt: must not call back into the queue.
    /// - Returns: whether there was one.
    func cancel(_ id: String, interrupt: () -> Void) throws -> Bool {
        let isRunning = state.withLock { state in
            guard state.running?.id == id else { return false }
            interrupt()
            return true
        }
        return try isRunning || delete(id)
    }

    func history(_ id: String) -> HistoryEntry? { state.withLock { $0.history[id] } }
    func history() -> [HistoryEntry] { state.withLock { $0.history.entries } }
    func clearHistory() { state.withLock { $0.history = History() } }
    func deleteHistory(_ id: String) { state.withLock { $0.history.remove(id) } }

    /// The process ends: what is queued or running is lost, and nothing finishes any more.
    func close() {
        state.withLock { state in
            guard !state.isClosed else { return }
            state.isClosed = true
            for prompt in state.pending.items + (state.running.map { [$0] } ?? []) { tally.count(prompt.id) { $0.lost += 1 } }
            for id in state.history.entries.map(\.prompt.id) + state.late { tally.count(id) { $0.forgotten += 1 } }
        }
    }

    /// The worker drops its cache after the current prompt.
    func requestFree() {
        state.withLock { $0.freeMemory = true }
        work.signal()
    }

    // MARK: The worker's side

    /// The next prompt, which then counts as running.
    func take() throws(PythonHeap.Incomparable) -> Prompt? {
        try state.withLock { state throws(PythonHeap.Incomparable) in
            guard !state.isClosed, let prompt = try state.pending.pop() else { return nil }
            state.running = prompt
            tally.count(prompt.id) { $0.started += 1 }
            lengthChanged(state.remaining)
            return prompt
        }
    }

    /// The running prompt has ended; `entry` is nil when the history does not learn of it, or, where it `isLate`, not yet. That is told here, not
    /// by a second call: the process may end between two.
    ///
    /// - Returns: false when the process ended before.
    func finish(_ id: String, _ entry: HistoryEntry?, isLate: Bool = false) -> Bool {
        state.withLock { state in
            guard !state.isClosed else { return false }
            if isLate { state.late.append(id) }
            tally.count(id) { $0.finished += 1 }
            state.running = nil
            if let entry { state.history.insert(entry, limit: Self.maximumHistory) }
            lengthChanged(state.remaining)
            return true
        }
    }

    /// An entry that comes later than its prompt's end.
    func add(_ entry: HistoryEntry) {
        state.withLock { state in
            state.late.firstIndex(of: entry.prompt.id).map { _ = state.late.remove(at: $0) }
            state.history.insert(entry, limit: Self.maximumHistory)
        }
    }

    /// Whether the cache is to be dropped; asks once.
    func takeFreeRequest() -> Bool {
        state.withLock { state in
            defer { state.freeMemory = false }
            return state.freeMemory
        }
    }

    func waitForWork() { work.wait() }
    func wakeWorker() { work.signal() }
}

/// Entries by id in order of first completion: an id that runs again keeps its place.
private struct History {
    private var byID: [String: HistoryEntry] = [:]
    /// Ids from the oldest on; those before `start` are gone, so that dropping the oldest does not move the rest.
    private var order: [String] = []
    private var start = 0

    subscript(id: String) -> HistoryEntry? { byID[id] }
    var entries: [HistoryEntry] { order[start...].compactMap { byID[$0] } }

    mutating func insert(_ entry: HistoryEntry, limit: Int) {
        if byID.updateValue(entry, forKey: entry.prompt.id) == nil { order.append(entry.prompt.id) }
        guard byID.count > limit else { return }
        byID[order[start]] = nil
        start += 1
        if start > limit {
            order.removeFirst(start)
            start = 0
        }
    }

    mutating func remove(_ id: String) {
        guard byID.removeValue(forKey: id) != nil, let index = order[start...].firstIndex(of: id) else { return }
        order.remove(at: index)
    }
}
