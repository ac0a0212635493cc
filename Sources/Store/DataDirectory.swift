import Foundation
import Glibc
import Jobs
import Logging
import Synchronization
import Wording

/// The folder in which the bridge keeps what outlives it. One process at a time.
final class DataDirectory: Sendable {
    let path: String
    /// The lock file, held until `release`; the system lets go of it with the process, however that ends. -1 when released.
    private let lock: Atomic<Int32>

    /// Makes the folder if need be, readable by its owner only, and takes it for this process.
    init(path: String) throws(DataDirectoryError) {
        self.path = path
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Self.unusable(path, "it cannot be made (\(ErrorWords.of(error)))")
        }
        let file = path + "/lock"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.unusable(path, "it cannot be written to (\(String(cString: strerror(errno))))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            defer { close(descriptor) }
            guard reason == EWOULDBLOCK else { throw Self.unusable(path, "it cannot be locked (\(String(cString: strerror(reason))))") }
            let owner = (try? String(contentsOfFile: file, encoding: .utf8))?.trimmed ?? ""
            throw DataDirectoryError(
                "--data-dir '\(path)' is in use by another comfy-bridge\(owner.isEmpty ? "" : " (process \(owner))"). "
                    + "Stop that one, or give this one a folder of its own with --data-dir.")
        }
        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(descriptor, 0) == 0, write(descriptor, text, text.count) == text.count else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw Self.unusable(path, "it cannot be written to (\(reason))")
        }
        lock = Atomic(descriptor)
    }

    deinit { release() }

    /// Another process may have the folder from here on.
    func release() {
        let descriptor = lock.exchange(-1, ordering: .relaxed)
        if descriptor >= 0 { close(descriptor) }
    }

    var databasePath: String { path + "/comfy-bridge.sqlite" }

    /// Opens the database, or says what to do about one that cannot be opened.
    func openDatabase(logger: Logger) throws(DataDirectoryError) -> SQLiteDatabase {
        // Workflows and prompts are in it: for its owner only, like the files that SQLite makes beside it, which follow its mode.
        let descriptor = open(databasePath, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        if descriptor >= 0 { close(descriptor) }
        do { return try SQLiteDatabase(path: databasePath, logger: logger) } catch {
            if case .damaged(let reason)? = StorageError(error) {
                throw DataDirectoryError(
                    "The database \(databasePath) is damaged (\(reason)). It was left as it is: restore it from a backup, or mend it with .recover of sqlite3, "
                        + "or move it away to begin anew, or use another --data-dir.")
            }
            throw DataDirectoryError(
                "The database \(databasePath) cannot be opened: \(ErrorWords.of(error)). Make room or repair it, move it away to begin anew, or use another --data-dir.")
        }
    }

    private static func unusable(_ path: String, _ reason: String) -> DataDirectoryError {
        DataDirectoryError(
            "--data-dir '\(path)' cannot be used: \(reason). Name a folder that this user may write to, or --data-dir none to keep everything in memory.")
    }
}

/// Why the data directory cannot be used, and what to do about it, in words for whoever starts the bridge.
package struct DataDirectoryError: Error, CustomStringConvertible {
    package let description: String

    package init(_ description: String) { self.description = description }
}
