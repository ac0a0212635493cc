import GRDB
import Synchronization

/// Writes to the database, all that waits at a time in one transaction: while one is committed the next ones gather, so that the commits of a
/// busy bridge cost each job little, and those of an idle one nobody waits for.
final class GroupCommit: Sendable {
    struct Operation: Sendable {
        /// Called once, or twice if the transaction of the first call failed, on the writer's thread.
        let perform: @Sendable (GRDB.Database) throws -> Void
        /// Called once, after the commit, without any lock.
        let finish: @Sendable ((any Error)?) -> Void
    }

    private struct State {
        var waiting: [Operation] = []
        var isScheduled = false
    }

    /// Operations of one transaction, so that the first of many are not held up by the last.
    private static let limit = 256

    private let pool: DatabasePool
    private let state = Mutex(State())

    init(_ pool: DatabasePool) {
        self.pool = pool
    }

    /// Any thread; returns at once. Operations are performed in this order.
    func add(_ operation: Operation) {
        let isFirst = state.withLock { state in
            state.waiting.append(operation)
            defer { state.isScheduled = true }
            return !state.isScheduled
        }
        if isFirst { pool.asyncWriteWithoutTransaction { db in self.drain(db) } }
    }

    private func drain(_ db: GRDB.Database) {
        while true {
            let operations = state.withLock { state -> [Operation] in
                let operations = Array(state.waiting.prefix(Self.limit))
                state.waiting.removeFirst(operations.count)
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
