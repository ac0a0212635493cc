package import Jobs
package import Logging

/// Writes nothing.
package final class IdleJournal: JobJournal {
    package init() {}
    package func enqueue(_: any JournaledJob, isAwaited: Bool) {}
    package func hurry() {}
}

/// A ComfyUI that has no files.
package struct NoComfyFiles: ComfyFileReader {
    package init() {}
    package func read(_: ComfyFile, _: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void) async throws { throw StorageError.failed("there is no ComfyUI") }
}

extension Logger {
    package static var errorsOnly: Logger {
        var logger = Logger(label: "test") { StreamLogHandler.standardError(label: $0) }
        logger.logLevel = .error
        return logger
    }
}
