import NIOPosix
import Jobs

/// Runs what waits for a disk on a thread that may wait. A task that is cancelled waits as well: that it is not wanted any more is no fault of the
/// disk, and what comes next tells.
func onFileThread<Value: Sendable>(_ body: @escaping @Sendable () throws(StorageError) -> Value) async throws(StorageError) -> Value {
    let result = await onFileThread { Result { () throws(StorageError) in try body() } }
    return try result.get()
}

func onFileThread<Value: Sendable>(_ body: @escaping @Sendable () -> Value) async -> Value {
    await withCheckedContinuation { continuation in
        // Without a place in the pool, which never ends, the body runs here all the same.
        NIOThreadPool.singleton.submit { _ in continuation.resume(returning: body()) }
    }
}
