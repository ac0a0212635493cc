package import Logging

/// How the log is written to standard error.
package enum LogFormat: String, CaseIterable, Sendable {
    case text, json

    package static let option = Option("log-format", "FORMAT", default: "text", "text, or json: an object per line")

    package func makeHandler(label: String) -> any LogHandler {
        switch self {
        case .text: TextLogHandler(label: label)
        case .json: JSONLogHandler(label: label)
        }
    }
}
