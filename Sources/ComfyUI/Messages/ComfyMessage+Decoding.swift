package import OrderedJSON
import OrderedCollections

/// Why a message of a known type, or a binary one, cannot be read.
package struct ComfyMessageError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The message's type, when that much could be read.
    package let type: String?
    package let reason: String
    /// The beginning of the message; empty for binary ones.
    package let payloadStart: String

    package var description: String {
        let kind = type.map { "a '\($0)' message" } ?? "a message"
        return payloadStart.isEmpty ? "\(kind) cannot be read: \(reason)" : "\(kind) cannot be read: \(reason): \(payloadStart)"
    }
}

extension ComfyMessage {
    /// Decodes one text frame: `{"type": …, "data": …}`.
    package init(parsing text: String) throws(ComfyMessageError) {
        let json: JSON
        do {
            json = try JSON(parsing: text, lenient: true)
        } catch {
            throw ComfyMessageError(type: nil, reason: error.description, payloadStart: text.excerpt)
        }
        guard let type = json["type"]?.string else {
            throw ComfyMessageError(type: nil, reason: "it has no type", payloadStart: text.excerpt)
        }
        do throws(FieldError) {
            let data = json["data"] ?? .null
            self = try ComfyMessage.decode(type, data) ?? .unknown(type: type, raw: text, promptID: data["prompt_id"]?.identifier)
        } catch {
            throw ComfyMessageError(type: type, reason: error.reason, payloadStart: text.excerpt)
        }
    }

    /// Decodes a message whose envelope was already taken apart, as history entries hold them.
    package init(type: String, data: JSON) throws(ComfyMessageError) {
        do throws(FieldError) {
            self = try ComfyMessage.decode(type, data) ?? .unknown(type: type, raw: data.text, promptID: data["prompt_id"]?.identifier)
        } catch {
            throw ComfyMessageError(type: type, reason: error.reason, payloadStart: data.text.excerpt)
        }
    }

    /// nil for a type that is not known.
    private static func decode(_ type: String, _ data: JSON) throws(FieldError) -> ComfyMessage? {
        switch type {
        case "status":
            guard let remaining = data["status"]?["exec_info"]?["queue_remaining"]?.int else {
                throw FieldError("status.exec_info.queue_remaining is missing")
            }
            return .status(queueRemaining: remaining, sid: data["sid"]?.string)
        case "feature_flags": return .featureFlags(data)
        case "execution_start": return .executionStart(promptID: try data.promptID(), timestamp: data["timestamp"]?.int)
        case "execution_cached":
            return .executionCached(promptID: try data.promptID(), nodes: try data.identifiers("nodes"), timestamp: data["timestamp"]?.int)
        case "executing": return try decodeExecuting(data)
        case "progress":
            return .progress(
                promptID: data["prompt_id"]?.identifier, node: data["node"]?.identifier, value: try data.number("value"),
                maximum: try data.number("max"))
        case "progress_state": return try decodeProgressState(data)
        case "executed":
            let node = try data.requiredIdentifier("node")
            return .executed(
                promptID: try data.promptID(), node: node, displayNode: data["display_node"]?.identifier ?? node,
                output: try data.optionalObject("output"))
        case "execution_success": return .executionSuccess(promptID: try data.promptID(), timestamp: data["timestamp"]?.int)
        case "execution_error": return .executionError(try ExecutionError(data))
        case "execution_interrupted":
            return .executionInterrupted(
                promptID: try data.promptID(), nodeID: data["node_id"]?.identifier, nodeType: data["node_type"]?.string,
                executed: (data["executed"]?.array ?? []).compactMap(\.identifier), timestamp: data["timestamp"]?.int)
        case "logs": return .logs(data)
        default: return nil
        }
    }

    private static func decodeExecuting(_ data: JSON) throws(FieldError) -> ComfyMessage {
        guard let members = data.object, let node = members["node"] else { throw FieldError("node is missing") }
        guard node.isNull || node.identifier != nil else { throw FieldError("node is \(node.kindInWords)") }
        guard let promptID = members["prompt_id"]?.identifier else { return .executingBare(node: node.identifier) }
        guard let node = node.identifier else { return .executionEnded(promptID: promptID) }
        return .executing(promptID: promptID, node: node, displayNode: members["display_node"]?.identifier)
    }

    private static func decodeProgressState(_ data: JSON) throws(FieldError) -> ComfyMessage {
        guard let members = data["nodes"]?.object else { throw FieldError("nodes is missing") }
        var nodes: [NodeProgress] = []
        nodes.reserveCapacity(members.count)
        for (key, node) in members {
            nodes.append(try NodeProgress(key: key, node))
        }
        return .progressState(promptID: try data.promptID(), nodes: nodes)
    }
}

extension NodeProgress {
    fileprivate init(key: String, _ json: JSON) throws(FieldError) {
        nodeID = json["node_id"]?.identifier ?? key
        value = try json.number("value")
        maximum = try json.number("max")
        switch json["state"]?.string {
        case "pending": state = .pending
        case "running": state = .running
        case "finished": state = .finished
        case "error": state = .error
        case let other?: state = .other(other)
        case nil: throw FieldError("state is missing")
        }
        displayNodeID = json["display_node_id"]?.identifier
        parentNodeID = json["parent_node_id"]?.identifier
        realNodeID = json["real_node_id"]?.identifier
        activity = json["activity"]?.string
    }
}

extension ExecutionError {
    fileprivate init(_ json: JSON) throws(FieldError) {
        let type = try json.text("exception_type")
        self.init(
            promptID: try json.promptID(), nodeID: json["node_id"]?.identifier, nodeType: json["node_type"]?.string,
            message: json["exception_message"]?.string ?? type, exceptionType: type,
            traceback: (json["traceback"]?.array ?? []).compactMap(\.string), executed: (json["executed"]?.array ?? []).compactMap(\.identifier),
            timestamp: json["timestamp"]?.int)
    }
}

/// Which member is wrong.
private struct FieldError: Error {
    let reason: String
    init(_ reason: String) { self.reason = reason }
}

extension JSON {
    /// A node or prompt id. ComfyUI writes strings; node packs write numbers too, which count by their digits.
    var identifier: String? { string ?? number?.literal }

    fileprivate func promptID() throws(FieldError) -> String { try requiredIdentifier("prompt_id") }

    fileprivate func requiredIdentifier(_ key: String) throws(FieldError) -> String {
        guard let value = self[key]?.identifier else { throw FieldError("\(key) is \(self[key]?.kindInWords ?? "missing")") }
        return value
    }

    fileprivate func text(_ key: String) throws(FieldError) -> String {
        guard let value = self[key]?.string else { throw FieldError("\(key) is \(self[key]?.kindInWords ?? "missing")") }
        return value
    }

    fileprivate func number(_ key: String) throws(FieldError) -> Double {
        guard let value = self[key]?.double else { throw FieldError("\(key) is \(self[key]?.kindInWords ?? "missing")") }
        return value
    }

    fileprivate func identifiers(_ key: String) throws(FieldError) -> [String] {
        guard let elements = self[key]?.array else { throw FieldError("\(key) is \(self[key]?.kindInWords ?? "missing")") }
        return elements.compactMap(\.identifier)
    }

    fileprivate func optionalObject(_ key: String) throws(FieldError) -> JSONObject? {
        guard let value = self[key], !value.isNull else { return nil }
        guard let members = value.object else { throw FieldError("\(key) is \(value.kindInWords)") }
        return members
    }
}
