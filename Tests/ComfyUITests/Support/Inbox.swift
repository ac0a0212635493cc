import Synchronization

/// What came in, in order, for one reader that waits for it.
final class Inbox<Element: Sendable>: Sendable {
    private struct State {
        var elements: [Element] = []
        var waiter: CheckedContinuation<Element?, Never>?
    }

    private let state = Mutex(State())

    func put(_ element: Element) {
        let waiter = state.withLock { state in
            if state.waiter == nil { state.elements.append(element) }
            return state.waiter.take()
        }
        waiter?.resume(returning: element)
    }

    func next() async throws -> Element {
        let element = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let element = state.withLock { state -> Element?? in
                    if !state.elements.isEmpty { return .some(state.elements.removeFirst()) }
                    if Task.isCancelled { return .some(nil) }
                    state.waiter = continuation
                    return nil
                }
                if let element { continuation.resume(returning: element) }
            }
        } onCancel: {
            state.withLock { $0.waiter.take() }?.resume(returning: nil)
        }
        guard let element else { throw CancellationError() }
        return element
    }

    /// The next one that `match` takes; those before it are dropped.
    func first<Match>(_ match: (Element) -> Match?) async throws -> Match {
        while true {
            if let match = match(try await next()) { return match }
        }
    }
}
