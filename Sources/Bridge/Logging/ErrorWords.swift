import ComfyUI
import Foundation
import GRDB

/// What a person can make something of, for any error: in logs and in messages about the start.
package enum ErrorWords {
    /// Without a full stop, to go into a sentence.
    package static func of(_ error: any Error) -> String {
        switch error {
        case let error as StorageError: error.description
        case let error as DatabaseError: words(error)
        case let error as CocoaError: words(error)
        case let error as POSIXError: String(cString: strerror(error.code.rawValue)).lowercased()
        default: NetworkWords.of(error)
        }
    }

    /// Without the statement, in which there may be anything.
    private static func words(_ error: DatabaseError) -> String {
        let text = error.message ?? "SQLite error \(error.resultCode.rawValue)"
        return switch error.resultCode.primaryResultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: "the database file is damaged (\(text))"
        case .SQLITE_CANTOPEN: "the database file cannot be opened"
        case .SQLITE_READONLY: "the database file cannot be written to"
        default: text
        }
    }

    private static func words(_ error: CocoaError) -> String {
        if let cause = error.underlying as? POSIXError { return String(cString: strerror(cause.code.rawValue)).lowercased() }
        return switch error.code {
        case .fileNoSuchFile, .fileReadNoSuchFile: "no such file or directory"
        case .fileReadNoPermission, .fileWriteNoPermission: "permission denied"
        case .fileWriteOutOfSpace: "no space left on device"
        case .fileReadInapplicableStringEncoding, .fileReadUnknownStringEncoding, .fileReadCorruptFile: "it is not UTF-8 text"
        default: error.localizedDescription
        }
    }
}
