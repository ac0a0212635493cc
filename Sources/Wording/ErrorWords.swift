import Foundation

/// An error that says itself what a person can make something of: those of libraries whose own texts are dumps.
package protocol ErrorWithWords: Error {
    /// Without a full stop, to go into a sentence.
    var words: String { get }
}

/// What a person can make something of, for any error: in logs and in messages about the start.
package enum ErrorWords {
    /// Without a full stop, to go into a sentence.
    package static func of(_ error: any Error) -> String {
        switch error {
        case let error as any ErrorWithWords: error.words
        case let error as CocoaError: words(error)
        case let error as POSIXError: String(cString: strerror(error.code.rawValue)).lowercased()
        case is CancellationError: "it was given up"
        default: "\(error)"
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
