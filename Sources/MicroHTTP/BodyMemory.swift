import Synchronization

/// What the bodies of all requests under way may take together.
final class BodyMemory: Sendable {
    let limit: Int
    private let state = Mutex((used: 0, most: 0))
    private let onChange: (@Sendable () -> Void)?

    /// - Parameter onChange: as `HTTPServer.Configuration.onChange`.
    init(limit: Int, onChange: (@Sendable () -> Void)? = nil) {
        self.limit = limit
        self.onChange = onChange
    }

    /// Bytes set aside at the moment.
    var used: Int { state.withLock { $0.used } }
    /// The most that ever were.
    var most: Int { state.withLock { $0.most } }

    /// - Returns: false if there is not so much left, or not `total`.
    fileprivate func reserve(_ count: Int, of total: Int = 0) -> Bool {
        let isReserved = state.withLock { state in
            guard max(count, total) <= limit - state.used else { return false }
            state.used += count
            state.most = max(state.most, state.used)
            return true
        }
        if isReserved { onChange?() }
        return isReserved
    }

    fileprivate func release(_ count: Int) {
        state.withLock { $0.used -= count }
        onChange?()
    }
}

/// The part of the memory that one body has. Given back when nobody holds this object any more, so on every way that a request can end.
final class BodyShare: Sendable {
    private let memory: BodyMemory
    private let size: Mutex<Int>

    /// Nil if there is not `total` left, of which `count` are set aside.
    init?(_ count: Int, of total: Int, in memory: BodyMemory) {
        guard memory.reserve(count, of: total) else { return nil }
        self.memory = memory
        size = Mutex(count)
    }

    /// - Returns: false if there is not so much left.
    func grow(to count: Int) -> Bool {
        size.withLock { size in
            guard count > size else { return true }
            guard memory.reserve(count - size) else { return false }
            size = count
            return true
        }
    }

    func grow(by count: Int) -> Bool {
        size.withLock { size in
            guard memory.reserve(count) else { return false }
            size += count
            return true
        }
    }

    deinit {
        memory.release(size.withLock { $0 })
    }
}

/// A body in memory with its share, for all copies of the request that it belongs to.
final class HeldBody: Sendable {
    private let state: Mutex<(bytes: [UInt8], share: BodyShare?)>

    init(_ bytes: [UInt8], share: BodyShare? = nil) {
        state = Mutex((bytes, share))
    }

    var bytes: [UInt8] { state.withLock { $0.bytes } }

    func release() {
        state.withLock { $0 = ([], nil) }
    }
}
