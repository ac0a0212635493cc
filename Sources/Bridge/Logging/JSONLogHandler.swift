import FoundationEssentials
package import Logging
import OrderedCollections
import OrderedJSON
import Wording

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
            "time": .string(LogTime.text(now())), "level": .string(event.level.rawValue), "label": .string(label), "message": .string(event.message.description),
        ]
        for (key, value) in metadata(of: event).sorted(by: { $0.key < $1.key }) {
            // A library may call something of its own `message`.
            members[members[key] == nil ? key : "metadata.\(key)"] = JSON(value)
        }
        write(LogText.visible(json: JSON.object(members).encoded()) + [UInt8(ascii: "\n")])
    }
}

extension JSON {
    fileprivate init(_ value: Logger.Metadata.Value) {
        switch value {
        case .string(let text): self = .string(text)
        case .stringConvertible(let number as any BinaryInteger): self.init(number)
        case .stringConvertible(let number as any BinaryFloatingPoint): self.init(Double(number))
        case .stringConvertible(let truth as Bool): self = .bool(truth)
        case .stringConvertible(let other): self = .string(other.description)
        case .array(let elements): self = .array(elements.map { JSON($0) })
        case .dictionary(let members):
            self = .object(JSONObject(uniqueKeysWithValues: members.sorted { $0.key < $1.key }.map { ($0.key, JSON($0.value)) }))
        }
    }
}
