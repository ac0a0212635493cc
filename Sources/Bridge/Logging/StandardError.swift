import FoundationEssentials
import Glibc
import Synchronization

/// Lines from any thread, each in one piece.
enum StandardError {
    private static let lock = Mutex(())

    static let write: @Sendable ([UInt8]) -> Void = { line in
        lock.withLock { _ in
            var rest = line[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count) }
                // A log that nobody can take stops nobody.
                guard count > 0 || errno == EINTR else { return }
                rest = rest.dropFirst(max(0, count))
            }
        }
    }
}

/// The time of an entry.
enum LogTime {
    /// RFC 3339 with milliseconds, in UTC.
    static func text(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}
