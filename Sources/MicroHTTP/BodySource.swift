/// A body that is produced while it is sent, in a pull model: the server asks when the connection can take more, so that
/// thousands of viewers need neither a task nor a buffer each.
///
/// A source serves one response. The server calls, in this order: `attach` once; `next` any number of times, one call after
/// the other, on a thread of the server; `closed` once. `drain` may come at any time between, from another thread. A response
/// that is never sent (its client left before) gets `closed` alone.
package protocol BodySource: AnyObject, Sendable {
    /// `wake` makes the server ask `next` again after a `.pending`. It may be called from any thread, any number of times, under
    /// the source's own locks, inside `next`, and after `closed` (then it does nothing). A wake-up that falls between the moment
    /// `next` decided on `.pending` and the server going to sleep is not lost.
    func attach(wake: @escaping @Sendable () -> Void)

    /// Called on a server thread that serves other connections as well: must not block. Small chunks are joined, large ones
    /// are sent in parts; the array is held until the last part is gone.
    func next() -> BodyChunk

    /// The server is shutting down gracefully: say a last word if there is one, then `.finished` soon (and `wake`, so that it
    /// is asked). Called at most once; what is still running after the configured drain timeout is cut off.
    func drain()

    /// Nothing will be asked any more. Exactly once.
    func closed(_ reason: BodyEnd)
}

package enum BodyChunk: Sendable, Equatable {
    case bytes([UInt8])
    /// Nothing yet; ask again after `wake`.
    case pending
    case finished
    /// Cut the connection, so that the client sees a truncated body rather than a short one that looks whole.
    case failed
}

package enum BodyEnd: Sendable, Equatable {
    /// Handed to the kernel whole (or not needed: HEAD, 204, 304).
    case completed
    /// The client left, the connection broke or idled out, or the source itself said `.failed`.
    case disconnected
    /// The server stopped before the body was sent.
    case stopped
}
