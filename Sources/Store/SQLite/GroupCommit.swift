import Dispatch
import GRDB
import Synchronization
import Wording

/// Writes to the database, all that waits at a time in one transaction: while one is committed the next ones gather, so that the commits of a
/// busy bridge cost each job little, and those of an idle one nobody waits for. What nobody waits for gathers longer.
final class GroupCommit: Sendable {
    struct Operation: Sendable {
        /// Called once, or twice if the transaction of the first call failed, on the writer's thread.
        let perform: @Sendable (GRDB.Database) throws -> Void
        /// Called once, after the commit, without any lock.
        let finish: @Sendable ((any Error)?) -> Void
    }

    private struct State {
        var waiting: [Operation] = []
        /// Somebody waits for one of them.
        var isAwaited = false
        /// The writer has been asked to perform what waits.
        var isScheduled = false
        var isTimed = false
    }

    /// Operations of one transaction, so that the first of many are not held up by the last.
    private static let limit = 256
    /// How long an operation waits for one that somebody waits for.
    private static let gatheringTime = DispatchTimeInterval.milliseconds(20)

    private let pool: DatabasePool
    private let state = Mutex(State())

    init(_ pool: DatabasePool) {
        self.pool = pool
    }

    /// Any thread; returns at once. Operations are performed in this order.
    ///
    /// - Parameter isAwaited: false lets it wait a moment for one that somebody waits for, to share its transaction.
    func add(_ operation: Operation, isAwaited: Bool = true) {
        guard !isAwaited else { return schedule(adding: operation) }
        let needsTimer = state.withLock { state in
            state.waiting.append(operation)
            defer { state.isTimed = true }
            return !state.isTimed
        }
        guard needsTimer else { return }
        DispatchQueue.global().asyncAfter(deadline: .now() + Self.gatheringTime) {
            self.state.withLock { $0.isTimed = false }
            self.hurry()
        }
    }

    /// Performs what waits, now.
    func hurry() { schedule(adding: nil) }

    private func schedule(adding operation: Operation?) {
        let isNeeded = state.withLock { state in
            if let operation { state.waiting.append(operation) }
            state.isAwaited = !state.waiting.isEmpty
            guard state.isAwaited, !state.isScheduled else { return false }
            state.isScheduled = true
            return true
        }
        if isNeeded { pool.asyncWriteWithoutTransaction { db in self.drain(db) } }
    }

    private func drain(_ db: GRDB.Database) {
        while true {
            let operations = state.withLock { state -> [Operation] in
                let operations = state.isAwaited ? Array(state.waiting.prefix(Self.limit)) : []
                state.waiting.removeFirst(operations.count)
                if state.waiting.isEmpty { state.isAwaited = false }
                state.isScheduled = !operations.isEmpty
                return operations
            }
            guard !operations.isEmpty else { return }
            let errors = commit(operations, db)
            for (operation, error) in zip(operations, errors) { operation.finish(error) }
        }
    }

    /// All in one transaction; when that fails each in its own, so that nobody fails because of another.
    private func commit(_ operations: [Operation], _ db: GRDB.Database) -> [(any Error)?] {
        func transaction(_ operations: ArraySlice<Operation>) -> (any Error)? {
            do {
                try db.inTransaction(.immediate) {
                    for operation in operations { try operation.perform(db) }
                    return .commit
                }
                return nil
            } catch {
                return error
            }
        }
        let error = transaction(operations[...])
        guard error != nil, operations.count > 1 else { return operations.map { _ in error } }
        return operations.indices.map { transaction(operations[$0...$0]) }
    }
}
