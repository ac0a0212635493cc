import Synchronization

/// Things that are costly to make and cheap to name. At the limit everything is thrown away and begins anew.
final class BoundedCache<Value: Sendable>: Sendable {
    private struct State {
        var values: [String: Value] = [:]
        var cost = 0
    }

    private let state = Mutex(State())
    private let limit: Int
    private let cost: @Sendable (Value) -> Int

    /// - Parameter limit: in bytes, as `cost` counts them.
    init(limit: Int, cost: @escaping @Sendable (Value) -> Int) {
        self.limit = limit
        self.cost = cost
    }

    func value(_ key: String, make: () throws -> Value) rethrows -> Value {
        if let value = state.withLock({ $0.values[key] }) { return value }
        let value = try make()
        let cost = cost(value)
        state.withLock { state in
            if state.cost + cost > limit { state = State() }
            state.values[key] = value
            state.cost += cost
        }
        return value
    }
}
