import DequeModule
import Synchronization

extension PromptInbox {
    /// What is read of one open prompt, and the way for timers and requests to add to it. As an `AsyncStream`, which takes three times as long for
    /// each of its many messages.
    package final class Channel: Sendable {
        private struct State {
            var waiting: Deque<Attempt.Input> = []
            var isFinished = false
            var reader: UnsafeContinuation<Void, Never>?
        }

        private let state = Mutex(State())

        func send(_ input: Attempt.Input) { wake { $0.waiting.append(input) } }

        /// The reader gets what waits, then nothing more.
        package func finish() { wake { $0.isFinished = true } }

        /// The next input; nil at the end, or when the task is cancelled. For one reader.
        func next() async -> Attempt.Input? {
            if let input = state.withLock({ $0.waiting.popFirst() }) { return input }
            await withTaskCancellationHandler {
                await withUnsafeContinuation { reader in
                    let isReady = state.withLock { state in
                        guard state.waiting.isEmpty, !state.isFinished, !Task.isCancelled else { return true }
                        state.reader = reader
                        return false
                    }
                    if isReady { reader.resume() }
                }
            } onCancel: {
                wake { _ in }
            }
            return state.withLock { $0.waiting.popFirst() }
        }

        private func wake(after change: (inout State) -> Void) {
            let reader = state.withLock { state in
                change(&state)
                defer { state.reader = nil }
                return state.reader
            }
            reader?.resume()
        }
    }
}
