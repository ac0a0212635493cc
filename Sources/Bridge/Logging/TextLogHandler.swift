import ComfyUI
import FoundationEssentials
package import Logging
import Wording

/// Writes each entry as a line: `time level label: name=value … [source] message`.
package struct TextLogHandler: LogHandler {
    package var logLevel = Logger.Level.info
    package var metadata = Logger.Metadata()
    package var metadataProvider: Logger.MetadataProvider?

    private let label: String
    private let write: @Sendable ([UInt8]) -> Void
    private let now: @Sendable () -> Date

    /// - Parameter write: takes a whole line at a time; any thread.
    init(label: String, write: @escaping @Sendable ([UInt8]) -> Void = StandardError.write, now: @escaping @Sendable () -> Date = { Date() }) {
        self.label = label
        self.write = write
        self.now = now
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var line = "\(LogTime.text(now())) \(event.level) \(label):"
        for (key, value) in metadata(of: event).sorted(by: { $0.key < $1.key }) { line += " \(LogText.word(key))=\(LogText.word(value.description))" }
        line += " [\(event.source)] \(LogText.visible(event.message.description))\n"
        write(Array(line.utf8))
    }
}

extension LogHandler {
    /// All that belongs to an entry; the nearest wins.
    func metadata(of event: LogEvent) -> Logger.Metadata {
        var all = metadata
        all.merge(metadataProvider?.get() ?? [:]) { _, newer in newer }
        all.merge(event.metadata ?? [:]) { _, newer in newer }
        if let error = event.error { all["error"] = "\(NetworkWords.of(error))" }
        return all
    }
}
