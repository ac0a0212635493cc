import FoundationEssentials
import Jobs
import OrderedCollections
import OrderedJSON
import Wording
import Workflow

/// What is written down as JSON, and read again. Members that are not known are passed over, and values that are not known become the
/// nearest that is: a record of another version must not make a job unreadable.
struct UnreadableRecord: Error, CustomStringConvertible {
    let description: String
}

extension JSON {
    fileprivate func text(_ name: String) throws -> String {
        guard let text = self[name]?.string else { throw UnreadableRecord(description: "'\(name)' is missing") }
        return text
    }

    fileprivate func number(_ name: String) throws -> Int {
        guard let number = self[name]?.int else { throw UnreadableRecord(description: "'\(name)' is missing") }
        return number
    }
}

/// Without the members that are nil.
private func object(_ members: KeyValuePairs<String, JSON?>) -> JSON {
    var object: JSONObject = [:]
    for (name, value) in members where value != nil { object[name] = value }
    return .object(object)
}

extension WorkflowFault {
    fileprivate var record: JSON {
        object([
            "node": node.map(JSON.string), "field": field.map(JSON.string), "reason": .string(reason), "class": classType.map(JSON.string),
            "message": .string(message),
        ])
    }

    fileprivate init(record: JSON) throws {
        self.init(
            node: record["node"]?.string, field: record["field"]?.string, reason: try record.text("reason"), classType: record["class"]?.string,
            message: try record.text("message"))
    }
}

extension JobError {
    var record: JSON {
        object([
            "code": .string(code.rawValue), "message": .string(message), "node": node.map(JSON.string), "class": classType.map(JSON.string),
            "faults": faults.isEmpty ? nil : .array(faults.map(\.record)), "fault_count": faults.isComplete ? nil : JSON(faults.total),
        ])
    }

    init(record: JSON) throws {
        self.init(
            code: Code(rawValue: try record.text("code")) ?? .upstreamError, message: try record.text("message"), node: record["node"]?.string,
            classType: record["class"]?.string,
            faults: WorkflowFaults(try (record["faults"]?.array ?? []).prefix(WorkflowFaults.limit).map { try WorkflowFault(record: $0) }, total: record["fault_count"]?.int))
    }
}

extension JobProgress {
    var record: JSON {
        object([
            "value": JSON(value), "done": JSON(nodesDone), "total": JSON(nodesTotal), "node": currentNode.map(JSON.string),
            "class": currentClass.map(JSON.string), "step": step.map { JSON($0) }, "steps": steps.map { JSON($0) }, "message": message.map(JSON.string),
            "activity": activity.map(JSON.string),
        ])
    }

    init(record: JSON) throws {
        self.init(
            value: record["value"]?.double ?? 0, nodesDone: try record.number("done"), nodesTotal: try record.number("total"),
            currentNode: record["node"]?.string, currentClass: record["class"]?.string, step: record["step"]?.int, steps: record["steps"]?.int,
            message: record["message"]?.string, activity: record["activity"]?.string)
    }
}

extension Attempts {
    /// Nil where nothing has gone wrong yet.
    var record: JSON? {
        func count(_ number: Int) -> JSON? { number == 0 ? nil : JSON(number) }
        guard self != Attempts() else { return nil }
        return object([
            "lost": count(lost), "kills": count(kills), "undelivered": count(undelivered), "out_of_memory": count(outOfMemory),
            "failed_devices": failedDevices.isEmpty ? nil : .array(failedDevices.sorted().map(JSON.string)),
            "events_before": count(Int(clamping: eventsBefore)),
        ])
    }

    init(record: JSON) {
        self.init(
            lost: record["lost"]?.int ?? 0, kills: record["kills"]?.int ?? 0, undelivered: record["undelivered"]?.int ?? 0,
            outOfMemory: record["out_of_memory"]?.int ?? 0, failedDevices: Set(record["failed_devices"]?.array?.compactMap(\.string) ?? []),
            eventsBefore: UInt64(clamping: record["events_before"]?.int ?? 0))
    }
}

extension Submission.Options {
    /// Without what is about a caller that blocks: it will not be there any more.
    var record: JSON {
        object([
            "timeout": timeout.map { .array([JSON($0.components.seconds), JSON($0.components.attoseconds)]) },
            "allows_partial": allowsPartial ? true : nil,
        ])
    }

    init(record: JSON, priority: Int) {
        self.init()
        self.priority = priority
        allowsPartial = record["allows_partial"]?.bool ?? false
        if let seconds = record["timeout"]?[0]?.int, let attoseconds = record["timeout"]?[1]?.int {
            timeout = Duration(secondsComponent: Int64(seconds), attosecondsComponent: Int64(attoseconds))
        }
    }
}

extension AssetPlace {
    var record: JSON {
        switch self {
        case .reference(let id): ["reference": .string(id.text)]
        case .input(let node, let name): ["node": .string(node.text), "input": .string(name.text)]
        }
    }

    init(record: JSON) throws {
        if let id = record["reference"]?.string { self = .reference(id: Name(id)) } else { self = .input(node: Name(try record.text("node")), name: Name(try record.text("input"))) }
    }
}

extension JobEvent {
    /// Nil for events without an id, which are not written down.
    ///
    /// - Parameter output: how an output of the job is written.
    func record(output: (Output) -> JSON) -> JSON? {
        switch self {
        case .status(let status, let error): object(["status": .string(status.rawValue), "error": error?.record])
        case .node(let node):
            object([
                "node": .string(node.node), "state": .string(node.state.rawValue), "display": node.displayNode == node.node ? nil : .string(node.displayNode),
                "class": node.classType.map(JSON.string), "title": node.title.map(JSON.string),
            ])
        case .output(let value): ["output": output(value)]
        case .log(let entry): object(["log": .string(entry.message), "level": .string(entry.level.rawValue), "node": entry.node.map(JSON.string)])
        case .queuePosition, .progress, .preview, .comfyui: nil
        }
    }

    init(record: JSON, output: (JSON) throws -> Output) throws {
        if let status = record["status"]?.string {
            guard let status = JobStatus(rawValue: status) else { throw UnreadableRecord(description: "the status '\(status)' is not known") }
            self = .status(status, error: try record["error"].map { try JobError(record: $0) })
        } else if let message = record["log"]?.string {
            self = .log(LogEntry(LogEntry.Level(rawValue: try record.text("level")) ?? .info, message, node: record["node"]?.string))
        } else if let value = record["output"] {
            self = .output(try output(value))
        } else {
            let node = try record.text("node")
            self = .node(
                NodeEvent(
                    node: node, displayNode: record["display"]?.string ?? node, classType: record["class"]?.string, title: record["title"]?.string,
                    state: NodeEvent.State(rawValue: try record.text("state")) ?? .running))
        }
    }
}
