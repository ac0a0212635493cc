import Foundation
import Glibc
import Logging

/// The folder in which the bridge keeps what outlives it. One process at a time.
final class DataDirectory: Sendable {
    let path: String
    /// Held as long as this lives; the system lets go of it with the process, however that ends.
    private let lock: Int32

    /// Makes the folder if need be, readable by its owner only, and takes it for this process.
    init(path: String) throws(ConfigurationError) {
        self.path = path
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        } catch {
            throw Self.unusable(path, "it cannot be made (\(error.localizedDescription))")
        }
        let file = path + "/lock"
        let descriptor = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw Self.unusable(path, "it cannot be written to (\(String(cString: strerror(errno))))") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let reason = errno
            defer { close(descriptor) }
            guard reason == EWOULDBLOCK else { throw Self.unusable(path, "it cannot be locked (\(String(cString: strerror(reason))))") }
            let owner = (try? String(contentsOfFile: file, encoding: .utf8))?.trimmed ?? ""
            throw ConfigurationError(
                "--data-dir '\(path)' is in use by another comfy-bridge\(owner.isEmpty ? "" : " (process \(owner))"). "
                    + "Stop that one, or give this one a folder of its own with --data-dir.")
        }
        let text = Array("\(getpid())\n".utf8)
        guard ftruncate(descriptor, 0) == 0, write(descriptor, text, text.count) == text.count else {
            let reason = String(cString: strerror(errno))
            close(descriptor)
            throw Self.unusable(path, "it cannot be written to (\(reason))")
        }
        lock = descriptor
    }

    deinit { close(lock) }

    var databasePath: String { path + "/comfy-bridge.sqlite" }

    /// Opens the database, or says what to do about one that cannot be opened.
    func openDatabase(logger: Logger) throws(ConfigurationError) -> SQLiteDatabase {
        do { return try SQLiteDatabase(path: databasePath, logger: logger) } catch {
            throw ConfigurationError(
                "The database \(databasePath) cannot be opened: \(error). Make room or repair it, move it away to begin anew, or use another --data-dir.")
        }
    }

    private static func unusable(_ path: String, _ reason: String) -> ConfigurationError {
        ConfigurationError(
            "--data-dir '\(path)' cannot be used: \(reason). Name a folder that this user may write to, or --data-dir none to keep everything in memory.")
    }
}
