import GRDB
import Wording

extension DatabaseError: ErrorWithWords {
    /// Without the statement, in which there may be anything.
    package var words: String {
        let text = message ?? "SQLite error \(resultCode.rawValue)"
        return switch resultCode.primaryResultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB: "the database file is damaged (\(text))"
        case .SQLITE_CANTOPEN: "the database file cannot be opened"
        case .SQLITE_READONLY: "the database file cannot be written to"
        default: text
        }
    }
}
