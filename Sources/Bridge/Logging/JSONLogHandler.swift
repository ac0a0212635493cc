import FoundationEssentials
import Glibc
package import Logging
import OrderedCollections
import OrderedJSON
import Synchronization

/// Writes each entry as a JSON object on a line of its own: `time`, `level`, `label`, `message`, then the metadata as members.
package struct JSONLogHandler: LogHandler {
    package var logLevel = Logger.Level.info
    package var metadata = Logger.Metadata()
    package var metadataProvider: Logger.MetadataProvider?

    private let label: String
    private let write: @Sendable ([UInt8]) -> Void
    private let now: @Sendable () -> Date

    /// - Parameter write: takes a whole line at a time; any thread.
    init(label: String, write: @escaping @Sendable ([UInt8]) -> Void, now: @escaping @Sendable () -> Date = { Date() }) {
        self.label = label
        self.write = write
        self.now = now
    }

    /// To standard error.
    package init(label: String) { self.init(label: label, write: StandardError.write) }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var members: JSONObject = [
            "time": .string(Self.time(now())), "level": .string(event.level.rawValue), "label": .string(label), "message": .string(event.message.description),
        ]
        var all = metadata
        all.merge(metadataProvider?.get() ?? [:]) { _, newer in newer }
        all.merge(event.metadata ?? [:]) { _, newer in newer }
        if let error = event.error { all["error"] = "\(error)" }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) {
            // A library may call something of its own `message`.
            members[members[key] == nil ? key : "metadata.\(key)"] = JSON(value)
        }
        write(JSON.object(members).encoded() + [UInt8(ascii: "\n")])
    }

    /// RFC 3339 with milliseconds, in UTC.
    private static func time(_ date: Date) -> String {
        date.formatted(Date.ISO8601FormatStyle(includingFractionalSeconds: true))
    }
}

/// Lines from any thread, each in one piece.
private enum StandardError {
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

extension JSON {
    fileprivate init(_ value: Logger.Metadata.Value) {
        switch value {
        case .string(let text): self = .string(text)
        case .stringConvertible(let number as Int): self.init(number)
        case .stringConvertible(let number as Double): self.init(number)
        case .stringConvertible(let truth as Bool): self = .bool(truth)
        case .stringConvertible(let other): self = .string(other.description)
        case .array(let elements): self = .array(elements.map { JSON($0) })
        case .dictionary(let members):
            self = .object(JSONObject(uniqueKeysWithValues: members.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) }))
        }
    }
}
